package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"killfeed/bench/internal/server"
	"killfeed/bench/internal/suite"
	"killfeed/storetest"
)

// limits measures what the machine itself can do. No program on it can do better.
func limits(ctx context.Context, b *bench) ([]suite.Result, error) {
	bare, err := b.yardstick(ctx, "bare")
	if err != nil {
		return nil, err
	}
	defer bare.Stop()
	request := server.Get("/")
	lines := []struct {
		name string
		unit func(float64) string
		run  func() (float64, error)
	}{
		{"limit: append 4 KB and fsync, one after another", suite.PerSecond, func() (float64, error) {
			return b.write(4<<10, true, b.round)
		}},
		{"limit: sequential write of 1 MB pieces, with one fsync at the end", func(v float64) string { return fmt.Sprintf("%.0f MB/s", v) },
			func() (float64, error) { return b.write(1e6, false, b.round) }},
		{fmt.Sprintf("limit: net/http answering 204, %d connections", b.conns), suite.PerSecond, func() (float64, error) {
			l, err := server.Drive([]*server.Server{bare}, b.conns, b.round, func(int) []byte { return request }, func(_, status int, _ []byte) error {
				if status != 204 {
					return fmt.Errorf("answered %d", status)
				}
				return nil
			})
			return l.Rate, err
		}},
		{fmt.Sprintf("limit: frames of %d bytes over one loopback connection, a write and a read each", storetest.TypicalBytes), suite.PerSecond,
			func() (float64, error) { return frames(b.round) }},
	}
	var runs []func() (float64, error)
	for _, l := range lines {
		runs = append(runs, l.run)
	}
	got, err := b.turns(ctx, runs...)
	if err != nil {
		return nil, err
	}
	var rs []suite.Result
	for i, l := range lines {
		rs = append(rs, suite.Result{
			Measure: l.name, Ours: l.unit(suite.Median(got[i])), Note: fmt.Sprintf("spread %.0f%%", 100*suite.Spread(got[i])),
		})
	}
	return rs, nil
}

// write writes pieces to a new file for a time, and tells how many a second.
func (b *bench) write(size int, each bool, d time.Duration) (float64, error) {
	f, err := os.Create(filepath.Join(b.Work, "limits"))
	if err != nil {
		return 0, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	piece := make([]byte, size)
	for i := range piece {
		piece[i] = byte(i * i >> 3)
	}
	const most = 2000 // MB without an fsync: the file must not fill the memory
	n, start := 0, time.Now()
	for ; time.Since(start) < d && (each || n < most); n++ {
		if _, err := f.Write(piece); err != nil {
			return 0, err
		}
		if each {
			if err := f.Sync(); err != nil {
				return 0, err
			}
		}
	}
	if err := f.Sync(); err != nil {
		return 0, err
	}
	return float64(n) / time.Since(start).Seconds(), nil
}

// frames sends frames over a connection of this process to itself.
func frames(d time.Duration) (float64, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	out, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return 0, err
	}
	defer out.Close()
	in, err := l.Accept()
	if err != nil {
		return 0, err
	}
	defer in.Close()
	written := make(chan error, 1)
	start := time.Now()
	go func() { // ends soon after d: what it writes is read below
		frame := make([]byte, storetest.TypicalBytes)
		for time.Since(start) < d {
			if _, err := out.Write(frame); err != nil {
				written <- err
				return
			}
		}
		written <- out.Close()
	}()
	n, frame := 0, make([]byte, storetest.TypicalBytes)
	for {
		if _, err := io.ReadFull(in, frame); err == io.EOF {
			return float64(n) / time.Since(start).Seconds(), <-written
		} else if err != nil {
			return 0, err
		}
		n++
	}
}
