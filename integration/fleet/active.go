package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
)

// How long one question to all servers waits for answers: at first, and at most. A
// machine that has much else to do takes its time.
const (
	firstRound   = 250 * time.Millisecond
	longestRound = 4 * time.Second
)

// WaitActive waits until the fleet has found itself: n distinct servers answer
// on the system account, and each of them counts as many active servers, or
// more: one that has gone and whose goodbye was lost is counted for minutes. The
// options must log in to the system account at url. Without a deadline in ctx, it
// gives up after a minute.
func (f *Fleet) WaitActive(ctx context.Context, url string, n int, opts ...nats.Option) error {
	ctx, cancel := limit(ctx)
	defer cancel()
	nc, err := nats.Connect(url, append([]nats.Option{nats.Name("natsentry-fleet")}, opts...)...)
	if err != nil {
		return fmt.Errorf("wait for %d active servers: connect: %w", n, err)
	}
	defer nc.Close()

	for round := firstRound; ; round = min(2*round, longestRound) {
		counts, err := activeServers(ctx, nc, n, round)
		if err != nil {
			return fmt.Errorf("wait for %d active servers: %w", n, err)
		}
		if agree(counts, n) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %d active servers: %w; the last answers were %v", n, context.Cause(ctx), counts)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// activeServers asks all servers once, waits for so long, and returns each one's
// count by its name and id. It stops early when n servers have answered.
func activeServers(ctx context.Context, nc *nats.Conn, n int, wait time.Duration) (map[string]int, error) {
	inbox := nc.NewRespInbox()
	sub, err := nc.SubscribeSync(inbox)
	if err != nil {
		return nil, err
	}
	defer func() { _ = sub.Unsubscribe() }() // fails only on a closed connection
	if err := nc.PublishRequest("$SYS.REQ.SERVER.PING.STATSZ", inbox, nil); err != nil {
		return nil, err
	}
	round, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	counts := map[string]int{}
	for len(counts) < n {
		msg, err := sub.NextMsgWithContext(round)
		if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
			break
		}
		if err != nil {
			return nil, err
		}
		var answer struct {
			Server struct {
				ID   string `json:"id"`
				Name string `json:"name"`
			} `json:"server"`
			Statsz struct {
				Active int `json:"active_servers"`
			} `json:"statsz"`
		}
		if json.Unmarshal(msg.Data, &answer) != nil || answer.Server.ID == "" {
			continue // no responders, or not a server's answer
		}
		counts[answer.Server.Name+" "+answer.Server.ID] = answer.Statsz.Active
	}
	return counts, nil
}

func agree(counts map[string]int, n int) bool {
	for _, count := range counts {
		if count < n {
			return false
		}
	}
	return len(counts) == n
}
