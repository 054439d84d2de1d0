package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"
)

// tick is the unit of times in /proc, USER_HZ, which is the same on all systems that Go runs on; proc(5).
const tick = time.Second / 100

// usage is what a process has used.
type usage struct {
	pid      int
	name     string
	cpu      time.Duration // user and system
	resident int64         // bytes
	err      error         // why the rest is not known
}

func readUsages(pids []int) []usage {
	list := make([]usage, len(pids))
	for i, pid := range pids {
		u, err := readUsage(pid)
		u.pid, u.err = pid, err
		list[i] = u
	}
	return list
}

// readUsage reads /proc/PID/stat; proc_pid_stat(5).
func readUsage(pid int) (usage, error) {
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		return usage{}, fmt.Errorf("process %d: only /proc tells what it uses, and this system has none: %w", pid, err)
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return usage{}, fmt.Errorf("process %d: there is none: %w", pid, err)
	}
	return parseStat(pid, stat)
}

// parseStat finds the name in parentheses, which may hold any itself, and counts fields from there.
func parseStat(pid int, stat []byte) (usage, error) {
	opened, closed := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
	if opened < 0 || closed < opened {
		return usage{}, fmt.Errorf("process %d: no name in %q", pid, stat)
	}
	const state, userTime, systemTime, residentPages = 3, 14, 15, 24 // the numbers that the manual gives
	fields := bytes.Fields(stat[closed+1:])
	if len(fields) <= residentPages-state {
		return usage{}, fmt.Errorf("process %d: %d fields in %q", pid, len(fields), stat)
	}
	var numbers [3]int64
	for i, field := range []int{userTime, systemTime, residentPages} {
		n, err := strconv.ParseInt(string(fields[field-state]), 10, 64)
		if err != nil {
			return usage{}, fmt.Errorf("process %d: field %d: %w", pid, field, err)
		}
		numbers[i] = n
	}
	return usage{
		pid: pid, name: string(stat[opened+1 : closed]),
		cpu:      time.Duration(numbers[0]+numbers[1]) * tick,
		resident: numbers[2] * int64(os.Getpagesize()),
	}, nil
}
