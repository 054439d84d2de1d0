package client

import (
	"fmt"
	"net/url"
	"slices"
)

// ForURL returns a client for an address that names its network: ws://host:port/path, wss://host:port/path,
// tcp://host:port, tls://host:port, unix:///path/of/socket. Anything else gives ErrBadAddress.
func ForURL(address string, opts ...Option) (*Client, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, fmt.Errorf("%w %q: %w", ErrBadAddress, address, err)
	}
	plain := u.RawQuery == "" && u.User == nil && u.Fragment == ""
	bare := plain && u.Path == ""
	switch {
	case (u.Scheme == "ws" || u.Scheme == "wss") && u.Host != "" && u.User == nil:
		return NewWebsocket(address, opts...), nil
	case u.Scheme == "tcp" && u.Port() != "" && bare:
		return NewTCP(u.Host, opts...), nil
	case u.Scheme == "tls" && u.Port() != "" && bare:
		return NewTCP(u.Host, slices.Concat([]Option{WithTLS(nil)}, opts)...), nil
	case u.Scheme == "unix" && u.Host == "" && u.Path != "" && plain:
		return NewUnixDomainSocket(u.Path, opts...), nil
	}
	return nil, fmt.Errorf("%w %q: want ws://, wss://, tcp://, tls:// or unix://", ErrBadAddress, address)
}
