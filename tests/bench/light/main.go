// Many clients of one server in one process that decode nothing but what acknowledging takes, so that the server is
// what is measured:
//
//	light xds PORT COUNT SERVICES OUT NAME...    incremental ADS, each name subscribed to, on COUNT connections
//	light sse PORT COUNT SERVICES OUT            server-sent events of the backend table
//	light stuck-xds PORT COUNT 1 - NAME...       ask, and never read
//	light stuck-sse PORT COUNT 1 -
//
// A state is known by the address that it brought: 10.100.HIGH.LOW is that of turn HIGH * 256 + LOW, and turn T is of
// Service T % SERVICES. "ready" is printed when each client has a turn of each Service. A line on standard input then
// names the last turn of each Service; when all clients have these, or nothing has come for 30 s, OUT gets by turn how
// many clients had it, or a later one of its Service, and when the last of them did (unix time), as JSON.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

const (
	maxTurns        = 1 << 16
	patience        = 30 * time.Second
	connectTogether = 50
)

var marker = []byte("10.100.")

// A client's turns, by Service the newest, and by turn when it (or a later one of its Service) came.
type client struct {
	newest []atomic.Int32
	came   []int64
}

type fleet struct {
	kind     string
	port     string
	services int
	names    []string
	clients  []*client
	arrivals atomic.Int64
	messages atomic.Int64
	failure  atomic.Pointer[string]
}

func main() {
	if len(os.Args) < 6 {
		fail(errors.New("light KIND PORT COUNT SERVICES OUT [NAME...]"))
	}
	count, err := strconv.Atoi(os.Args[3])
	if err != nil {
		fail(err)
	}
	services, err := strconv.Atoi(os.Args[4])
	if err != nil {
		fail(err)
	}
	all := &fleet{kind: os.Args[1], port: os.Args[2], services: services, names: os.Args[6:]}
	for range count {
		all.clients = append(all.clients, &client{newest: make([]atomic.Int32, services), came: make([]int64, maxTurns)})
	}
	stuck := strings.HasPrefix(all.kind, "stuck-")
	for number, each := range all.clients {
		go all.run(number, each, stuck)
		for !stuck && number-all.ready() >= connectTogether {
			all.check()
			time.Sleep(time.Millisecond)
		}
	}
	for !stuck && all.ready() < count {
		all.check()
		time.Sleep(10 * time.Millisecond)
	}
	if stuck {
		time.Sleep(time.Second)
	}
	fmt.Println("ready")
	line, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if stuck {
		return
	}
	if err != nil {
		fail(err)
	}
	last := make([]int32, services)
	for service, text := range strings.Fields(line) {
		turn, err := strconv.Atoi(text)
		if err != nil {
			fail(err)
		}
		last[service] = int32(turn)
	}
	all.await(last)
	all.save(os.Args[5])
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func (all *fleet) check() {
	if failure := all.failure.Load(); failure != nil {
		fail(errors.New(*failure))
	}
}

func (all *fleet) ready() int {
	count := 0
	for _, each := range all.clients {
		if each.has(nil) {
			count++
		}
	}
	return count
}

// Whether it has these turns; with none, whether it has any turn of each Service.
func (c *client) has(last []int32) bool {
	for service := range c.newest {
		wanted := int32(1)
		if last != nil {
			wanted = last[service]
		}
		if c.newest[service].Load() < wanted {
			return false
		}
	}
	return true
}

func (all *fleet) await(last []int32) {
	arrivals, since := all.arrivals.Load(), time.Now()
	for {
		all.check()
		complete := true
		for _, each := range all.clients {
			complete = complete && each.has(last)
		}
		if complete {
			return
		}
		if now := all.arrivals.Load(); now != arrivals {
			arrivals, since = now, time.Now()
		} else if time.Since(since) > patience {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

type turn struct {
	Clients int     `json:"clients"`
	Last    float64 `json:"last"`
}

func (all *fleet) save(out string) {
	turns := map[int]turn{}
	for number := range maxTurns {
		var found turn
		for _, each := range all.clients {
			if at := each.came[number]; at != 0 {
				found.Clients++
				found.Last = max(found.Last, float64(at)/1e9)
			}
		}
		if found.Clients > 0 {
			turns[number] = found
		}
	}
	text, err := json.Marshal(map[string]any{"turns": turns, "messages": all.messages.Load()})
	if err == nil {
		err = os.WriteFile(out, text, 0o644)
	}
	if err != nil {
		fail(err)
	}
}

// Notes the turns in a text; what may be the beginning of one at its end is for the caller.
func (all *fleet) note(c *client, text []byte) {
	now := time.Now().UnixNano()
	all.arrivals.Add(1)
	for {
		at := bytes.Index(text, marker)
		if at < 0 {
			return
		}
		text = text[at+len(marker):]
		high, rest, ok := number(text)
		if !ok || len(rest) == 0 || rest[0] != '.' {
			continue
		}
		low, _, ok := number(rest[1:])
		if !ok {
			continue
		}
		reached := high<<8 | low
		service := reached % all.services
		before := int(c.newest[service].Load())
		if reached <= before {
			continue
		}
		for each := reached; each > before && each >= 0; each -= all.services {
			c.came[each] = now
		}
		c.newest[service].Store(int32(reached))
	}
}

func number(text []byte) (int, []byte, bool) {
	value, at := 0, 0
	for at < len(text) && at < 3 && text[at] >= '0' && text[at] <= '9' {
		value = value*10 + int(text[at]-'0')
		at++
	}
	return value, text[at:], at > 0 && value < 256
}

func (all *fleet) run(number int, c *client, stuck bool) {
	connection, err := net.Dial("tcp", "127.0.0.1:"+all.port)
	if err == nil {
		if strings.HasSuffix(all.kind, "xds") {
			err = all.followXds(connection, number, c, stuck)
		} else {
			err = all.followSse(connection, c, stuck)
		}
	}
	text := fmt.Sprintf("client %d: %v", number, err)
	all.failure.CompareAndSwap(nil, &text)
}

func (all *fleet) followSse(connection net.Conn, c *client, stuck bool) error {
	if tcp, ok := connection.(*net.TCPConn); ok && stuck {
		_ = tcp.SetReadBuffer(4096)
	}
	request := "GET /v1/changes?table=backend HTTP/1.1\r\nHost: 127.0.0.1:" + all.port + "\r\n\r\n"
	if _, err := connection.Write([]byte(request)); err != nil {
		return err
	}
	if stuck {
		select {}
	}
	const longest = len("10.100.255.255\"")
	buffer := make([]byte, 256*1024)
	kept := 0
	for {
		count, err := connection.Read(buffer[kept:])
		if err != nil {
			return err
		}
		text := buffer[:kept+count]
		all.messages.Add(1)
		all.note(c, text)
		kept = copy(buffer, text[max(0, len(text)-longest):])
	}
}

// ---- HTTP/2 (RFC 9113), as much as gRPC takes ------------------------------------------------------------

const (
	frameData, frameHeaders, frameReset, frameSettings     = 0, 1, 3, 4
	framePing, frameGoaway, frameWindowUpdate              = 6, 7, 8
	flagAck, flagEndStream, flagEndHeaders                 = 1, 1, 4
	largestWindow, initialWindow                       int = 1<<31 - 1, 65535
	eds                                                    = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
	method                                                 = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
)

func frame(kind, flags byte, stream int, body []byte) []byte {
	head := []byte{byte(len(body) >> 16), byte(len(body) >> 8), byte(len(body)), kind, flags,
		byte(stream >> 24), byte(stream >> 16), byte(stream >> 8), byte(stream)}
	return append(head, body...)
}

func four(value int) []byte {
	return []byte{byte(value >> 24), byte(value >> 16), byte(value >> 8), byte(value)}
}

func (all *fleet) headers() []byte {
	var block []byte
	for _, field := range [][2]string{
		{":method", "POST"}, {":scheme", "http"}, {":path", method}, {":authority", "127.0.0.1:" + all.port},
		{"te", "trailers"}, {"content-type", "application/grpc"},
	} {
		// A literal field that is not indexed (RFC 7541, 6.2.2).
		block = append(block, 0, byte(len(field[0])))
		block = append(append(block, field[0]...), byte(len(field[1])))
		block = append(block, field[1]...)
	}
	return block
}

// A gRPC message: a byte for "not compressed", the length, and the message.
func message(body []byte) []byte {
	return frame(frameData, 0, 1, append(append([]byte{0}, four(len(body))...), body...))
}

// A field of a protobuf message that is a string or a message.
func field(number byte, body string) []byte {
	return append(varint([]byte{number<<3 | 2}, len(body)), body...)
}

func varint(to []byte, value int) []byte {
	for value >= 0x80 {
		to = append(to, byte(value)|0x80)
		value >>= 7
	}
	return append(to, byte(value))
}

func (all *fleet) followXds(connection net.Conn, number int, c *client, stuck bool) error {
	// Type, address, name and DNS domain: as istiod wants it.
	node := fmt.Sprintf("sidecar~10.%d.%d.%d~router-%d.default~default.svc.cluster.local",
		number>>16&255, number>>8&255, number&255, number)
	request := append(field(1, string(field(1, node))), field(2, eds)...)
	for _, name := range all.names {
		request = append(request, field(3, name)...)
	}
	opening := []byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
	opening = append(opening, frame(frameSettings, 0, 0, append([]byte{0, 4}, four(largestWindow)...))...)
	opening = append(opening, frame(frameWindowUpdate, 0, 0, four(largestWindow-initialWindow))...)
	opening = append(opening, frame(frameHeaders, flagEndHeaders, 1, all.headers())...)
	opening = append(opening, message(request)...)
	if _, err := connection.Write(opening); err != nil {
		return err
	}
	if stuck {
		select {}
	}
	reader := bufio.NewReaderSize(connection, 32*1024)
	head := make([]byte, 9)
	var body, data []byte
	for {
		if _, err := io.ReadFull(reader, head); err != nil {
			return err
		}
		length := int(head[0])<<16 | int(head[1])<<8 | int(head[2])
		if cap(body) < length {
			body = make([]byte, length)
		}
		body = body[:length]
		if _, err := io.ReadFull(reader, body); err != nil {
			return err
		}
		var err error
		switch kind, flags := head[3], head[4]; {
		case kind == frameReset || kind == frameGoaway || (kind <= frameHeaders && flags&flagEndStream != 0):
			return fmt.Errorf("the server ended the stream: frame %d %q", kind, body)
		case kind == frameSettings && flags&flagAck == 0:
			_, err = connection.Write(frame(frameSettings, flagAck, 0, nil))
		case kind == framePing && flags&flagAck == 0:
			_, err = connection.Write(frame(framePing, flagAck, 0, body))
		case kind == frameData:
			data, err = all.take(connection, c, append(data, body...))
		}
		if err != nil {
			return err
		}
	}
}

// Takes the whole messages at the beginning of the data, and acknowledges each; returns the rest.
func (all *fleet) take(connection net.Conn, c *client, data []byte) ([]byte, error) {
	for len(data) >= 5 {
		end := 5 + int(data[1])<<24 + int(data[2])<<16 + int(data[3])<<8 + int(data[4])
		if len(data) < end {
			break
		}
		all.messages.Add(1)
		all.note(c, data[5:end])
		nonce, err := nonceOf(data[5:end])
		if err != nil {
			return nil, err
		}
		if _, err := connection.Write(message(append(field(2, eds), field(6, nonce)...))); err != nil {
			return nil, err
		}
		data = data[end:]
	}
	return append([]byte(nil), data...), nil
}

// Field 5 of a DeltaDiscoveryResponse, whose fields all have a length.
func nonceOf(response []byte) (string, error) {
	for len(response) > 0 {
		tag, length, shift, at := response[0], 0, 0, 1
		for at < len(response) {
			length |= int(response[at]&0x7f) << shift
			shift += 7
			at++
			if response[at-1] < 0x80 {
				break
			}
		}
		if tag&7 != 2 || at+length > len(response) {
			return "", fmt.Errorf("not a DeltaDiscoveryResponse: field %d", tag)
		}
		if tag>>3 == 5 {
			return string(response[at : at+length]), nil
		}
		response = response[at+length:]
	}
	return "", errors.New("a response without a nonce")
}
