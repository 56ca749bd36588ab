package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// One flipped byte in the largest file of the log, wherever it is: check says that there is damage, and ends with 3.
func TestCheckFindsDamage(t *testing.T) {
	var mails strings.Builder
	for id := 1; id <= 2000; id++ {
		mails.WriteString(madeUp(id) + "\n")
	}
	dir := t.TempDir()
	var out, errs bytes.Buffer
	if code := run(t.Context(), []string{"import", "--data", dir, "-"}, nil, strings.NewReader(mails.String()), &out, &errs); code != exitOK {
		t.Fatalf("import: exit code %d: %s", code, errs.String())
	}
	var path string
	var text []byte
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if f.IsDir() {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if len(b) > len(text) {
			path, text = filepath.Join(dir, f.Name()), b
		}
	}
	for _, share := range []int{25, 50, 75} {
		damaged := bytes.Clone(text)
		damaged[len(text)*share/100] ^= 0x10
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		out.Reset()
		errs.Reset()
		if code := run(t.Context(), []string{"check", "--data", dir}, nil, strings.NewReader(""), &out, &errs); code != exitDamage {
			t.Errorf("%s damaged at %d%%: exit code %d, want %d: %s%s", filepath.Base(path), share, code, exitDamage, out.String(), errs.String())
		}
		if !strings.Contains(errs.String(), "error: the log is damaged: ") {
			t.Errorf("stderr: %s", errs.String())
		}
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	out.Reset()
	errs.Reset()
	if code := run(t.Context(), []string{"check", "--data", dir}, nil, strings.NewReader(""), &out, &errs); code != exitOK {
		t.Errorf("made whole again: exit code %d: %s%s", code, out.String(), errs.String())
	}
}
