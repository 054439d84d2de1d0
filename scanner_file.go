package gateway

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/minotaur-gateway/gateway/client"
)

const (
	defaultFileInterval = time.Second
	maxScanFile         = 16 << 20 // bytes
)

// NewFileScanner returns a scanner for the endpoints that a JSON file lists, read anew every interval (0 or less: one
// second), each with options before its own settings:
//
//	{"endpoints": [
//	  {"name": "game", "address": "ws://10.0.0.7:9001/", "pool": 4, "weight": 2, "meta": {"region": "eu"}},
//	  {"name": "chat", "address": "tcp://10.0.0.8:9002", "reconnect": "500ms"}
//	]}
//
// Addresses are those of client.ForURL. A file that is missing, half written, or wrong anywhere (an unknown field, a bad
// address, an endpoint without a name) is an error of that scan, which changes nothing. A file without endpoints is no error.
func NewFileScanner(path string, interval time.Duration, options ...EndpointOption) Scanner {
	if interval <= 0 {
		interval = defaultFileInterval
	}
	return NewFuncScanner(interval, func() ([]*Endpoint, error) {
		endpoints, err := readEndpoints(path, options)
		if err != nil {
			return nil, fmt.Errorf("file scanner: %s: %w", path, err)
		}
		return endpoints, nil
	})
}

// fileEndpoint is an entry of the file. Settings that are absent leave the defaults.
type fileEndpoint struct {
	Name      string            `json:"name"`
	Address   string            `json:"address"`
	Pool      *int              `json:"pool"`
	Weight    *float64          `json:"weight"`
	Reconnect *string           `json:"reconnect"`
	Meta      map[string]string `json:"meta"`
}

func readEndpoints(path string, options []EndpointOption) ([]*Endpoint, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxScanFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxScanFile {
		return nil, fmt.Errorf("more than %d bytes", maxScanFile)
	}
	var content struct {
		Endpoints *[]fileEndpoint `json:"endpoints"`
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&content); err != nil {
		return nil, err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the JSON object")
	}
	if content.Endpoints == nil {
		return nil, errors.New(`no "endpoints"`)
	}
	endpoints := make([]*Endpoint, 0, len(*content.Endpoints))
	for i, entry := range *content.Endpoints {
		e, err := entry.endpoint(options)
		if err != nil {
			return nil, fmt.Errorf("endpoint %d: %w", i, err)
		}
		endpoints = append(endpoints, e)
	}
	return endpoints, nil
}

func (f fileEndpoint) endpoint(options []EndpointOption) (*Endpoint, error) {
	if f.Name == "" {
		return nil, errors.New("no name")
	}
	cli, err := client.ForURL(f.Address)
	if err != nil {
		return nil, err
	}
	all := append([]EndpointOption(nil), options...)
	if f.Pool != nil {
		if *f.Pool <= 0 {
			return nil, fmt.Errorf("pool %d: want 1 or more", *f.Pool)
		}
		all = append(all, WithEndpointConnectionPoolSize(*f.Pool))
	}
	if f.Weight != nil {
		if *f.Weight < 0 {
			return nil, fmt.Errorf("weight %v: want 0 or more", *f.Weight)
		}
		all = append(all, WithEndpointWeight(*f.Weight))
	}
	if f.Reconnect != nil {
		interval, err := time.ParseDuration(*f.Reconnect)
		if err != nil {
			return nil, fmt.Errorf("reconnect: %w", err)
		}
		all = append(all, WithEndpointReconnectInterval(interval))
	}
	if f.Meta != nil {
		all = append(all, WithEndpointMeta(f.Meta))
	}
	return NewEndpoint(f.Name, cli, all...), nil
}
