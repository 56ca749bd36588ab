//go:build unix

package main

import "syscall"

// sigStop and sigCont stop a process and have it go on.
const (
	sigStop = syscall.SIGSTOP
	sigCont = syscall.SIGCONT
)
