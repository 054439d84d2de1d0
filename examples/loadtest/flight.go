package main

// outcome is what a reply turns out to be.
type outcome int

const (
	answered   outcome = iota // in time, and in order
	outOfOrder                // in time, but after the reply to a later packet
	late                      // its packet was given up before
	doubled                   // its packet was answered before
	neverSent
)

// flight is one client's packets that have no reply yet. Its owner locks.
type flight struct {
	times       []int64 // when number was sent, at number modulo their count, a power of two; 0: answered
	first, next uint64  // the numbers from first to before next are in times
	open        int     // how many of them have no reply
	after       uint64  // one more than the highest number answered
	lost        map[uint64]int64
}

// put returns the number of a packet that is sent at a time, not 0, and not before that of the packet before.
func (f *flight) put(at int64) (number uint64) {
	if f.next-f.first == uint64(len(f.times)) {
		f.grow()
	}
	number = f.next
	*f.at(number) = at
	f.next++
	f.open++
	return number
}

func (f *flight) at(number uint64) *int64 { return &f.times[number&uint64(len(f.times)-1)] }

func (f *flight) grow() {
	bigger := flight{times: make([]int64, max(1, 2*len(f.times)))}
	for n := f.first; n < f.next; n++ {
		*bigger.at(n) = *f.at(n)
	}
	f.times = bigger.times
}

// answer returns what a reply to number is, and when its packet was sent if that is known.
func (f *flight) answer(number uint64) (what outcome, at int64) {
	if number >= f.next {
		return neverSent, 0
	}
	if at, ok := f.lost[number]; ok {
		delete(f.lost, number)
		return late, at
	}
	if number < f.first || *f.at(number) == 0 {
		return doubled, 0
	}
	at, *f.at(number) = *f.at(number), 0
	f.open--
	f.skipAnswered()
	if number < f.after {
		return outOfOrder, at
	}
	f.after = number + 1
	return answered, at
}

func (f *flight) skipAnswered() {
	for f.first < f.next && *f.at(f.first) == 0 {
		f.first++
	}
}

// giveUp calls lost for each packet that was sent before a time, and returns how many there were.
func (f *flight) giveUp(before int64, lost func(at int64)) (n int) {
	for f.first < f.next && *f.at(f.first) < before {
		if at := *f.at(f.first); at != 0 {
			if f.lost == nil {
				f.lost = map[uint64]int64{}
			}
			f.lost[f.first] = at
			f.open--
			n++
			lost(at)
		}
		f.first++
	}
	return n
}
