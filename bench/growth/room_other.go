//go:build !linux

package main

// room is asked of Linux only: the writer of a log tells of a full disk anyhow.
func room(string, int64) error { return nil }
