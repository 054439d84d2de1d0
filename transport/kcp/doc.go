// Package kcp is the KCP network of a gateway: reliable, ordered packets over UDP that are resent sooner than TCP does it, for
// games that can't wait. NewTransport makes a server of package server accept it, NewClient is a client: a gateway's link, or a bot.
//
//	srv := server.New(server.NetworkKcp, server.WithTransport(kcp.NewTransport()))
//	link := kcp.NewClient("203.0.113.7:4000")
//
// It is a module of its own: KCP itself is github.com/xtaci/kcp-go, which needs ten modules more.
//
// # Wire
//
// KCP (stream mode) carries a stream of bytes each way, in sessions that both sides know by the addresses and a number, conv, which
// the client chooses at random. It has no beginning, no end, and doesn't notice a peer that is gone. So what is on the stream is
// frames. All integers are big-endian.
//
//	offset  bytes
//	0       1      type
//	1       4      length of the body
//	5       length body
//
//	type  name     from    body
//	1     HELLO    client  magic "MGKC" (4), version 1 (1), session id (16, random)
//	2     WELCOME  server  version 1 (1), session id (16, the client's), cookie (16, random)
//	3     READY    client  cookie (16)
//	4     DATA     both    a packet
//	5     PING     both    anything, up to 128 bytes
//	6     PONG     both    the ping's body
//	7     CLOSE    both    code (2), reason (UTF-8, up to 123 bytes)
//
// HELLO comes first and is, whole, in the session's first segment: to a datagram of an unknown session that holds none a server answers
// nothing, and keeps nothing of it. READY proves that the client is where its datagrams claim to come from. Only then the session
// is a connection, and ends an older one of the same address: a client that was started anew on its port. DATA may follow READY
// at once. The handshake has a deadline that no traffic moves.
//
// HELLO and WELCOME may get more fields at their end, which are ignored, up to 128 bytes. Any other frame than these, or at another
// time, ends the session, and so does a packet above the limit, as soon as its length is known.
//
// Whoever has received nothing for a while sends PING, and gives the peer up after as long again without a byte. CLOSE says
// that nothing comes after it, and is answered by CLOSE: whoever gets the answer knows that everything before has arrived. The
// codes are those of WebSocket; 1000 and 1001 are orderly ends.
//
// # What a nil callback means
//
// Of a packet written over this network a nil callback says that KCP's send queue has it. What KCP has not sent yet is bounded by
// the send window (WithWindow) and one write, 32 KiB or a single packet above that; a full window blocks the writer, for the
// write timeout at the most.
package kcp
