//go:build !unix

package main

import "syscall"

// There are no such signals here, and a process that is sent one goes on.
const (
	sigStop = syscall.Signal(-1)
	sigCont = syscall.Signal(-1)
)
