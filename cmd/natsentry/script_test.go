package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	osexec "os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/natsentry/natsentry/integration/fleet"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"natsentry": main})
}

// TestScript runs the command line against servers that each script starts
// itself. What scripts may use beside testscript's own commands:
//
//	nats-server FILE.conf        start a server from a configuration (with
//	                             the templates of fleet.Spec) and set URL and
//	                             HOSTPORT; FILE is its name
//	reload FILE.conf             have that server load the file again
//	code N COMMAND ARG...        run a command that must end with exit code N
//	fill FILE KEY VALUE          replace KEY in a file, VALUE may name a file
//	await-subscription N USER SUBJECT
//	                             wait until N clients listen for it; the user of
//	                             the system account asks
//	stranger                     connect to URL without credentials, and stay
//	request USER SUBJECT [RE]    ask until there is an answer that is no error,
//	                             and that matches
//	await-line FILE RE           wait until a line of a file matches
//	hangup                       send SIGHUP to what runs in the background
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		RequireUniqueNames:  true,
		RequireExplicitExec: false,
		Setup: func(env *testscript.Env) error {
			env.Vars = append(env.Vars, "XDG_CONFIG_HOME="+env.WorkDir+"/config")
			env.Values[fleetKey{}] = new(scriptFleet)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"nats-server": startServer, "code": exitCode, "fill": fill,
			"await-subscription": awaitSubscription, "request": request, "stranger": stranger,
			"await-line": awaitLine, "hangup": hangup, "reload": reload,
		},
	})
}

type fleetKey struct{}

// scriptFleet holds the servers of one script; nil before the first.
type scriptFleet struct{ *fleet.Fleet }

func servers(ts *testscript.TestScript) *scriptFleet {
	return ts.Value(fleetKey{}).(*scriptFleet)
}

func usage(ts *testscript.TestScript, neg bool, args []string, n int, text string) {
	if neg || len(args) < n {
		ts.Fatalf("usage: %s", text)
	}
}

func startServer(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 1, "nats-server FILE.conf")
	specs, err := fleet.Apart(context.Background(), fleet.Spec{Name: strings.TrimSuffix(filepath.Base(args[0]), ".conf"), Config: ts.ReadFile(args[0])})
	ts.Check(err)
	spec := specs[0]
	f := servers(ts)
	if f.Fleet == nil {
		started, err := fleet.Start(context.Background(), spec)
		ts.Check(err)
		f.Fleet = started
		ts.Defer(func() { ts.Check(f.Close()) })
	} else {
		_, err := f.Add(context.Background(), spec)
		ts.Check(err)
	}
	ts.Setenv("URL", f.Server(spec.Name).URL())
	ts.Setenv("HOSTPORT", f.Server(spec.Name).Addr("client"))
}

func reload(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 1, "reload FILE.conf")
	name := strings.TrimSuffix(filepath.Base(args[0]), ".conf")
	ts.Check(servers(ts).Server(name).Reload(context.Background(), ts.ReadFile(args[0])))
}

func exitCode(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 2, "code N COMMAND ARG...")
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *osexec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d\nstdout: %s\nstderr: %s", got, want, ts.ReadFile("stdout"), ts.ReadFile("stderr"))
	}
}

func fill(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 3, "fill FILE KEY VALUE")
	value := args[2]
	if data, err := os.ReadFile(ts.MkAbs(value)); err == nil {
		value = string(data)
	}
	text := ts.ReadFile(args[0])
	if !strings.Contains(text, args[1]) {
		ts.Fatalf("%s does not have %s", args[0], args[1])
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(strings.ReplaceAll(text, args[1], value)), 0o600))
}

// until asks again and again, and gives up after a time that only a hang takes.
func until(ts *testscript.TestScript, what string, done func() bool) {
	deadline := time.Now().Add(20 * time.Second)
	for !done() {
		if time.Now().After(deadline) {
			ts.Fatalf("%s: not in 20 s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func awaitSubscription(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 3, "await-subscription N USER SUBJECT")
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	srv := servers(ts).Servers()[0]
	nc, err := nats.Connect(srv.URL(), nats.UserInfo(args[1], args[1]))
	ts.Check(err)
	defer nc.Close()
	question, err := json.Marshal(server.SubszOptions{Test: args[2], Account: "SYS", Subscriptions: true})
	ts.Check(err)
	until(ts, args[2], func() bool {
		m, err := nc.Request("$SYS.REQ.SERVER."+srv.ID()+".SUBSZ", question, 5*time.Second)
		ts.Check(err)
		var answer struct{ Data server.Subsz }
		ts.Check(json.Unmarshal(m.Data, &answer))
		return len(answer.Data.Subs) >= want
	})
}

func request(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 2, "request USER SUBJECT [RE]")
	re := regexp.MustCompile(strings.Join(args[2:], " "))
	nc, err := nats.Connect(ts.Getenv("URL"), nats.UserInfo(args[0], args[0]))
	ts.Check(err)
	defer nc.Close()
	var reply *nats.Msg
	until(ts, args[1], func() bool {
		m, err := nc.Request(args[1], nil, 5*time.Second)
		if err != nil || m.Header.Get("Nats-Service-Error-Code") != "" || !re.Match(m.Data) {
			return false
		}
		reply = m
		return true
	})
	_, err = ts.Stdout().Write(reply.Data)
	ts.Check(err)
}

func awaitLine(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 2, "await-line FILE RE")
	re := regexp.MustCompile("(?m)" + args[1])
	until(ts, args[1], func() bool {
		text, err := os.ReadFile(ts.MkAbs(args[0]))
		return err == nil && re.Match(text)
	})
}

func hangup(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 0, "hangup")
	for _, cmd := range ts.BackgroundCmds() {
		ts.Check(cmd.Process.Signal(syscall.SIGHUP))
	}
}

func stranger(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 0, "stranger")
	nc, err := nats.Connect(ts.Getenv("URL"), nats.Name("stranger"))
	ts.Check(err)
	ts.Defer(nc.Close)
}
