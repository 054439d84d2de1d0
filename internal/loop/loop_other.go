//go:build !linux || noloops

package loop

import "net"

// Supported reports whether there are loops.
const Supported = false

// Loop does not exist here.
type Loop struct{}

// New returns ErrUnsupported.
func New() (*Loop, error) { return nil, ErrUnsupported }

func (l *Loop) FlushNow()                 {}
func (l *Loop) Stop()                     {}
func (l *Loop) Done() <-chan struct{}     { return nil }
func (l *Loop) Do(func()) bool            { return false }
func Detach(net.Conn) (fd int, err error) { return -1, ErrUnsupported }

// Conn does not exist here.
type Conn struct{}

func (c *Conn) Wake()                        {}
func (c *Conn) Do(func())                    {}
func (c *Conn) WriteNow([]byte) (int, error) { return 0, ErrUnsupported }
func (c *Conn) Blocked() bool                { return false }
func (c *Conn) Taken() bool                  { return false }
func (c *Conn) CloseWrite() error            { return ErrUnsupported }
func (c *Conn) Closed() bool                 { return true }
func (c *Conn) Close()                       {}
func (c *Conn) Init(*Loop, int, Handler)     {}
func (c *Conn) Abandon()                     {}
func (c *Conn) Enroll()                      {}
