//go:build unix

package gateway_test

import (
	"os/exec"
	"syscall"
)

// ownGroup has cmd's processes in a group of their own, which killGroup ends: a browser has many.
func ownGroup(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

func killGroup(cmd *exec.Cmd) { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
