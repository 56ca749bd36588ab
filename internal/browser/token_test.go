//go:build unix

package browser

import (
	"strings"
	"testing"
)

// Where reading needs a token, a page asks for one, asks again for one that is refused, and sends it in headers only; the tab keeps it
// over a reload, and who has none is told so once.
func TestReadToken(t *testing.T) {
	t.Parallel()
	b := newBrowser(t)
	s := newServer(t, "--read-tokens")
	s.insert(t, 3, worth(rifter, jita))
	token := s.token // which is good for everything, and at once
	const dialog = `document.querySelector("#read-token[open]")`
	use := func(p *page, text string) {
		p.wait(dialog + ` !== null`)
		p.do(nil, "type", map[string]any{"text": text})
		p.press("Enter")
	}
	// A browser tells in its console of every answer that is none; of nothing else there.
	refusals := func(p *page) {
		p.failing = true
		for _, said := range p.seen().Console {
			if !strings.Contains(said, "status of 401") && !strings.Contains(said, "status of 403") {
				t.Errorf("the page's console: %q", said)
			}
		}
	}
	p := b.open(t, s.url("/"), look{})
	defer refusals(p)
	use(p, "wrong")
	p.wait(dialog + `?.textContent.includes("not known here")`)
	use(p, token)
	p.live()
	p.rows(3)
	s.insert(t, 1, worth(rifter, jita))
	p.rows(4)
	if href := eval[string](p, `location.href`); strings.Contains(href, token) {
		t.Errorf("the token is in the address: %s", href)
	}
	p.do(nil, "reload", nil)
	p.live()
	p.rows(4)

	ops := b.open(t, s.url("/ops"), look{})
	defer refusals(ops)
	ops.wait(dialog + ` !== null`)
	ops.click("#read-token-cancel")
	ops.wait(dialog + ` === null`)
	ops.wait(`document.body.textContent.includes("needs a token with the scope read")`)
}
