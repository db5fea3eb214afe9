package form

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/natsentry/natsentry/agent/conffile/syntax"
)

// Keys that nats-server has at the top of a configuration (opts.go,
// processConfigFileLine).
var (
	// ownKeys are those that no other program is known to have there.
	ownKeys = words(`no_auth_user system_account no_system_account no_system no_sys_acc jetstream resolver resolver_preload account_resolver accounts_resolver
		resolver_pinned_accounts resolver_tls default_sentinel operators root_operator root_operators trusted_keys max_control_line max_payload max_pending
		max_traced_msg_len max_subscriptions max_subs max_sub_tokens max_subscription_tokens max_closed_clients write_deadline lame_duck_duration
		lame_duck_grace_period client_advertise monitor_port http_base_path ping_max prof_block_rate ports_file_dir no_header_support connect_error_reports
		reconnect_error_reports server_tags server_metadata feature_flags default_js_domain disable_sublist_cache no_sublist_cache no_fast_producer_stall
		logtime_utc trace_verbose trace_headers logfile_size_limit logfile_max_num allow_non_tls leafnodes`)
	// ownBlocks are blocks that are its own by a key in them.
	ownBlocks = map[string]map[string]bool{
		"authorization": words(`user username pass password token timeout users default_permission default_permissions permissions
			auth_callout auth_hook proxy_required`),
		"cluster": words(`listen port host net authorization routes tls cluster_advertise advertise no_advertise
			connect_retries connect_backoff pool_size accounts compression`),
		"gateway": words(`listen port host net authorization tls advertise connect_retries gateways reject_unknown reject_unknown_cluster`),
		"leaf":    words(`listen port host net authorization remotes reconnect tls advertise no_advertise compression`),
		"websocket": words(`listen port host net no_tls tls same_origin allowed_origins
			jwt_cookie user_cookie pass_cookie token_cookie no_auth_user handshake_timeout compression`),
		"ws": words(`listen port no_tls tls same_origin allowed_origins jwt_cookie no_auth_user`),
		"mqtt": words(`listen port host net tls no_auth_user ack_wait max_ack_pending
			js_domain stream_replicas consumer_replicas reject_qos2_publish downgrade_qos2_subscribe`),
	}
	// accountKeys are those of an account.
	accountKeys = words(`nkey imports exports jetstream users default_permissions mappings maps limits msg_trace trace_dest`)
	// sharedKeys are those that others may have as well. A file with nothing else is
	// taken for one of nats-server.
	sharedKeys = words(`listen port server_name host net debug trace logtime mappings maps accounts authorization http https http_port https_port cluster gateway
		leaf store_dir storedir logfile log_file log_size_limit log_max_num syslog remote_syslog pidfile pid_file prof_port proxy_protocol max_connections max_conn
		ping_interval tls ocsp write_timeout operator roots root system trusted websocket ws mqtt ocsp_cache proxies`)
)

func words(s string) map[string]bool {
	out := map[string]bool{}
	for w := range strings.FieldsSeq(s) {
		out[w] = true
	}
	return out
}

var (
	// ownLine finds a key of its own in a text that cannot be read.
	ownLine = regexp.MustCompile(`(?mi)^[ \t{]*["']?(?:` +
		`authorization["']?\s*[:=]?\s*\{(?:\s|#.*)*["']?(?:user|users|username|pass|password|token|timeout|permissions|default_permissions?|auth_callout)\b|` +
		`accounts["']?\s*[:=]?\s*\{(?:\s|#.*)*["']?[\w$-]+["']?\s*[:=]?\s*\{|` +
		`(?:cluster|gateway|leafnodes|leaf|websocket|mqtt)["']?\s*[:=]?\s*\{(?:\s|#.*)*["']?(?:listen|port|host|net|routes|remotes|gateways|authorization|no_auth_user|no_tls)\b|` +
		`(?:jetstream|resolver_preload)["']?\s*[:=]?\s*\{|` +
		`(?:no_auth_user|system_account|max_payload|max_control_line|lame_duck_duration|allowed_connection_types)["']?\s*[:= \t])`)
	// named finds its name in a comment.
	named   = regexp.MustCompile(`(?mi)(?:^|[ \t])(?:#|//).*\b(?:g?nats[-_ ]?server|gnatsd|nats\.io|docs\.nats)\b`)
	comment = regexp.MustCompile(`(?m)^[ \t]*(?:#|//)[#/ \t]*`)
	// others have lines that no configuration of nats-server has: sections of INI and
	// TOML, tags, and blocks of web servers.
	others = regexp.MustCompile(`(?m)^\s*(?:\[{1,2}[A-Za-z_][^\]\n{}]*\]{1,2}\s*(?:[#;].*)?$|<[/?!]?[A-Za-z]|(?:server|events|http|stream|upstream\s+\S+|location\s+\S.*)\s*\{\s*$)`)
)

// Servers reports whether a text is taken for a configuration of nats-server
// where nobody says that it is one: it has a key that only nats-server has at its
// place, or its name, or no key that nats-server does not have. What it includes is
// a part of it; read may be nil.
func Servers(name string, text []byte, read func(path string) ([]byte, error)) bool {
	missing := false // a file that it includes, and that nats-server would look for
	tree, err := syntax.Parse(name, text, syntax.Surroundings{Read: func(path string) ([]byte, error) {
		if read != nil {
			if included, err := read(path); err == nil {
				return included, nil
			}
		}
		missing = missing || !strings.ContainsAny(path, "*?[")
		return nil, nil
	}})
	mentioned := strings.Contains(strings.ToLower(filepath.Base(name)), "nats") || named.Match(text)
	if err != nil {
		return !others.Match(text) && (mentioned || ownLine.Match(text))
	}
	all, known := len(tree.Root.Entries), 0
	for _, e := range tree.Root.Entries {
		key := strings.ToLower(e.Key)
		if ownKeys[key] || ownBlock(key, e.Node.Value) {
			return true
		}
		if sharedKeys[key] || e.Used {
			known++
		}
	}
	switch {
	case others.Match(text):
		return false
	case all == 0: // all of it may be in comments
		return mentioned || missing || ownLine.Match(comment.ReplaceAll(text, nil))
	default:
		return known == all || mentioned && known > 0
	}
}

// ownBlock reports whether a block is one of nats-server by what is in it.
func ownBlock(key string, value any) bool {
	switch block, ok := value.(*syntax.Map); {
	case !ok:
		return false
	case key == "accounts":
		return slices.ContainsFunc(block.Entries, func(e *syntax.Entry) bool {
			account, ok := e.Node.Value.(*syntax.Map)
			return ok && (len(account.Entries) == 0 || slices.ContainsFunc(account.Entries, func(e *syntax.Entry) bool { return accountKeys[strings.ToLower(e.Key)] }))
		})
	default:
		keys := ownBlocks[key]
		return slices.ContainsFunc(block.Entries, func(e *syntax.Entry) bool { return keys[strings.ToLower(e.Key)] })
	}
}
