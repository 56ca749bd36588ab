package main

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestWarnings(t *testing.T) {
	var (
		w   warnings
		out bytes.Buffer
	)
	log := slog.New(&remembering{Handler: slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelError}), warnings: &w})
	log.Info("nothing")
	log.Warn("first", "a", 1)
	log.With("source", "r2z2").WithGroup("g").Error("second", "err", fmt.Errorf("%s", strings.Repeat("x", 9000)))
	got := w.list()
	if len(got) != 2 || got[0].Message != "second" || got[0].Level != "ERROR" || got[0].Attributes["source"] != "r2z2" ||
		len(got[0].Attributes["err"]) != maxWarningText || got[1].Message != "first" || got[1].Attributes["a"] != "1" {
		t.Errorf("remembered are %+v", got)
	}
	if text := out.String(); strings.Contains(text, "first") || !strings.Contains(text, "second") {
		t.Errorf("the log, of errors only, is %s", text)
	}
	for i := range 3 * maxWarnings {
		log.Warn(fmt.Sprint(i))
	}
	if got := w.list(); len(got) != maxWarnings || got[0].Message != "299" || got[maxWarnings-1].Message != "200" {
		t.Errorf("%d are remembered, from %s to %s", len(got), got[0].Message, got[len(got)-1].Message)
	}
}
