module github.com/minotaur-gateway/gateway

go 1.26

require (
	github.com/HdrHistogram/hdrhistogram-go v1.2.0
	github.com/alphadose/haxmap v1.4.1
	github.com/gorilla/websocket v1.5.3
	github.com/pires/go-proxyproto v0.15.0
	github.com/stretchr/testify v1.12.1
	go.uber.org/goleak v1.3.0
	golang.org/x/net v0.56.0
	golang.org/x/time v0.15.0
)

require (
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	golang.org/x/exp v0.0.0-20221031165847-c99f073a8326 // indirect
	golang.org/x/sys v0.46.0 // indirect
)
