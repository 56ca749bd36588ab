package webhook

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"killfeed"
)

// Format is what a webhook posts.
type Format string

const (
	// Discord is a message with an embed for each killmail.
	Discord Format = "discord"
	// JSON is the event as live streams tell it, or a batch of events.
	JSON Format = "json"
)

// Config says what is posted where.
type Config struct {
	// Name is 1 to 64 of a-z, 0-9, "_" and "-", the first a letter or digit.
	Name string
	// URL is the receiver, http or https. It is a secret.
	URL string
	// Format is Discord or JSON; empty: Discord for Discord's hosts, else JSON.
	Format Format
	// Topics are what to post, as Universe.ParseTopic reads them; none: all.
	Topics []string
	// Filter passes over what it does not match; empty: nothing.
	Filter string
	// Start is where a topic begins that the webhook has not had before. The zero value is killfeed.Earliest, which is hardly
	// ever wanted.
	Start killfeed.Start
	// Secret signs what is posted; empty: nothing is signed. For JSON only.
	Secret string
	// MaxAge passes over killmails whose own time is longer ago; 0: none. Those that tell no time are posted.
	MaxAge time.Duration
	// GiveUp is how long a receiver may fail before what waits for it becomes dead; it is above 0.
	GiveUp time.Duration
	// Backfill and Updates post imported history, and newer versions of what was posted.
	Backfill, Updates bool
	// Names tells what ids are called; for JSON only: Discord is always told.
	Names bool
	// Batch is how many events may be posted at once: 1 to 10 for Discord, 0 meaning 10; 1 to 500 for JSON, above 1 as
	// {"events":[…]}, 0 meaning 1.
	Batch int
	// Rate is how many messages may be posted in a minute; 0 means 30 for Discord, which allows no more, and no limit for JSON.
	Rate int
}

// Defaults for configurations that say nothing.
const (
	DefaultMaxAge = time.Hour
	DefaultGiveUp = 24 * time.Hour
)

const (
	maxEmbeds    = 10  // in a message of Discord's
	maxBatch     = 500 // events in one post of JSON
	discordRate  = 30  // messages a minute that Discord takes for one webhook
	maxRate      = 6000
	maxNameChars = 64
)

var nameForm = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,63}$`)

// check completes the configuration. The error says which member is wrong, and never what the URL or the secret is.
func (c *Config) check() (target *url.URL, err error) {
	if !nameForm.MatchString(c.Name) {
		return nil, fmt.Errorf("name %q is not accepted: want 1 to %d of a-z, 0-9, _ and -, the first a letter or digit", c.Name, maxNameChars)
	}
	target, err = url.Parse(strings.TrimSpace(c.URL))
	switch { // url.Parse's own error has the URL in it
	case strings.TrimSpace(c.URL) == "":
		return nil, errors.New("url is missing: want url = \"https://…\", or url_file = \"a file with it\"")
	case err != nil, target.Scheme != "http" && target.Scheme != "https", target.Host == "", target.Opaque != "":
		return nil, errors.New("url is no URL of a webhook: want one that begins with https:// or http:// and a host " +
			"(it is not shown, it may be a secret)")
	case target.Fragment != "":
		return nil, errors.New("url has a fragment (#…), which is never sent: leave it out")
	}
	atDiscord := isDiscord(target)
	switch {
	case c.Format == "" && atDiscord:
		c.Format = Discord
	case c.Format == "":
		c.Format = JSON
	case c.Format != Discord && c.Format != JSON:
		return nil, fmt.Errorf("format %q is not accepted: want discord or json", c.Format)
	case c.Format == JSON && atDiscord:
		return nil, errors.New("format \"json\" is not what Discord takes: want format = \"discord\"")
	}
	if c.Format == Discord {
		err = c.checkDiscord(target)
	} else {
		err = c.checkJSON()
	}
	switch {
	case err != nil:
	case c.Rate < 0 || c.Rate > maxRate:
		err = fmt.Errorf("rate %d is not accepted: want messages a minute, 1 to %d, or 0 for no limit but Discord's", c.Rate, maxRate)
	case c.MaxAge < 0:
		err = fmt.Errorf("max_age %v is not accepted: want 0 or more", c.MaxAge)
	case c.GiveUp <= 0:
		err = fmt.Errorf("give_up %v is not accepted: want more than 0", c.GiveUp)
	}
	return target, err
}

func (c *Config) checkDiscord(target *url.URL) error {
	switch {
	case c.Secret != "":
		return errors.New("secret_file is of no use: Discord checks no signatures; leave it out")
	case c.Names:
		return errors.New("names is of no use: what is posted to Discord always has names; leave it out")
	case c.Batch < 0 || c.Batch > maxEmbeds:
		return fmt.Errorf("batch %d is not accepted: Discord takes 1 to %d killmails in a message", c.Batch, maxEmbeds)
	case c.Rate > discordRate && isDiscord(target):
		return fmt.Errorf("rate %d is not accepted: Discord takes %d messages a minute", c.Rate, discordRate)
	}
	if c.Batch == 0 {
		c.Batch = maxEmbeds
	}
	if c.Rate == 0 {
		c.Rate = discordRate
	}
	return nil
}

func (c *Config) checkJSON() error {
	if c.Batch < 0 || c.Batch > maxBatch {
		return fmt.Errorf("batch %d is not accepted: want 1 to %d events", c.Batch, maxBatch)
	}
	if c.Batch == 0 {
		c.Batch = 1
	}
	return nil
}

func isDiscord(u *url.URL) bool {
	host := strings.ToLower(u.Hostname())
	return slices.ContainsFunc([]string{"discord.com", "discordapp.com"}, func(known string) bool {
		return host == known || strings.HasSuffix(host, "."+known)
	})
}

// what reads topics and filter, with what static data says at the moment.
func (c *Config) what(u *killfeed.Universe) (topics []killfeed.Topic, filter *killfeed.Filter, err error) {
	for _, name := range c.Topics {
		t, err := u.ParseTopic(name)
		if err != nil {
			return nil, nil, err
		}
		topics = append(topics, t)
	}
	if len(topics) == 0 {
		topics = []killfeed.Topic{killfeed.All()}
	}
	if len(topics) > killfeed.MaxTopics {
		return nil, nil, fmt.Errorf("topics: %d of them, want at most %d", len(topics), killfeed.MaxTopics)
	}
	if c.Filter != "" {
		if filter, err = killfeed.ParseFilter(c.Filter, u); err != nil {
			return nil, nil, err
		}
	}
	return topics, filter, nil
}
