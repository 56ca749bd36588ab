package main

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// tokenFileName is the admin token's file in the data directory.
const tokenFileName = "admin.token"

// adminToken returns the admin token of a data directory and its file, and makes both when there is none: 32 random bytes in
// base64url, readable by the owner only. The caller holds the data directory's lock.
func adminToken(dir string, log *slog.Logger) (token, path string, err error) {
	path = filepath.Join(dir, tokenFileName)
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", "", fmt.Errorf("reading the admin token: %w", err)
	}
	if token = strings.TrimSpace(string(text)); token != "" {
		if len(token) < 16 {
			return "", "", hint(fmt.Errorf("the admin token in %s is only %d characters long", path, len(token)),
				"delete the file to have a new one made")
		}
		if info, err := os.Stat(path); err == nil && runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
			log.Warn("the admin token can be read by others; make it 0600", "file", path, "mode", info.Mode().Perm())
		}
		return token, path, nil
	}
	var random [32]byte
	rand.Read(random[:])
	token = base64.RawURLEncoding.EncodeToString(random[:])
	if err := writeToken(path, token); err != nil {
		return "", "", fmt.Errorf("making the admin token: %w", err)
	}
	return token, path, nil
}

// writeToken never leaves half a token behind: a crash leaves the old state or the new one.
func writeToken(path, token string) error {
	temp := path + ".new"
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) { // its mode may be anything
		return err
	}
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(token + "\n")
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(temp, path)
}
