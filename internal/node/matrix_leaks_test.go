package node

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/firthmq/firth/internal/access"
	"github.com/firthmq/firth/internal/access/mask"
	"github.com/firthmq/firth/internal/access/rule"
	"github.com/firthmq/firth/internal/kafka"
	"github.com/firthmq/firth/internal/mqtt"
)

// leaky is a guard with one fault: what it tells is allowed that is not.
type leaky struct {
	*access.Access
	name   func(who *rule.Subject, o rule.Operation, name string) bool
	filter bool // every SUBSCRIBE is granted
	may    func(who *rule.Subject, o rule.Operation, kind rule.Kind, name string) bool
	stale  bool // what was allowed once is allowed for ever
	same   func(name string) bool
	bare   func(name string) bool // masks of it are not looked at

	known sync.Map
}

func (l *leaky) MayName(p *access.Pass, o rule.Operation, name []byte, topic string) bool {
	may := l.Access.MayName(p, o, name, topic) || l.name != nil && l.name(p.Who(), o, string(name))
	if l.stale && l.same(string(name)) {
		return l.first(may, p.Who().User, p.Who().ClientID, o, string(name))
	}
	return may
}

func (l *leaky) MaskName(p *access.Pass, name []byte, topic string) *mask.Set {
	if l.bare != nil && l.bare(string(name)) {
		return nil
	}
	return l.Access.MaskName(p, name, topic)
}

func (l *leaky) MaskTopic(p *access.Pass, topic string) *mask.Set {
	if l.bare != nil && l.bare(topic) {
		return nil
	}
	return l.Access.MaskTopic(p, topic)
}

func (l *leaky) MayFilter(p *access.Pass, filter string) bool {
	return l.filter || l.Access.MayFilter(p, filter)
}

func (l *leaky) May(p *access.Pass, o rule.Operation, kind rule.Kind, name string) bool {
	may := l.Access.May(p, o, kind, name) || l.may != nil && l.may(p.Who(), o, kind, name)
	if l.stale && (kind == rule.Topic || kind == rule.Cluster) && l.same(name) {
		return l.first(may, p.Who().User, o, name)
	}
	return may
}

func (l *leaky) MaskSome(topic string) bool {
	return (l.bare == nil || !l.bare(topic)) && l.Access.MaskSome(topic)
}

// first is true from the first time on that a question was answered so.
func (l *leaky) first(may bool, question ...any) bool {
	key := fmt.Sprint(question...)
	if may {
		l.known.Store(key, true)
	}
	_, was := l.known.Load(key)
	return was
}

// planted are faults that other brokers had, each as the guard of a door would have it.
var planted = []struct {
	what string
	of   ends
	at   string // a line about it has this
	leak func() *leaky
}{
	{"retained messages are not judged", pastPart, "retained", onPath("retained")},  // CVE-2018-12546
	{"what a group shares is not judged", livePart, "shared", onPath("shared")},     // NATS 2026-18
	{"history is not judged", pastPart, "history", onPath("history")},               // NATS 2026-26
	{"replay is not judged", pastPart, "replay", onPath("replay")},                  // NATS 2026-26
	{"what waited for a session is not judged", awayPart, "away", onPath("away")},   // CVE-2021-34434
	{"what is sent again is not judged", awayPart, "again", onPath("again")},        //
	{"QoS 2 is not judged", writePart, "w2", onPath("w2")},                          // Mosquitto 2.0.12
	{"overlapping filters are not judged", livePart, "overlap", onPath("overlap")},  //
	{"wills are not judged", willPart, "will", onPath("will")},                      // CVE-2026-95846
	{"a will is judged at CONNECT only", willPart, "willlater", first("willlater")}, //
	{"aliases are not judged", writePart, "walias", onPath("walias")},               //
	{"delayed messages are not judged", writePart, "wdelayed", onPath("wdelayed")},  //
	{"rewritten topics are not judged", writePart, "rewrite", onPath("rewrite")},    //
	{"$SYS is not judged", filterPart, "$SYS", anyName(func(name string) bool { return name[0] == '$' })},
	{"a decision outlives the rule", livePart, "revoked", first("live")},            //
	{"a narrower right wins over what denies", livePart, "wider", onTrick("wider")}, //
	{"denied below what is allowed", livePart, "narrow", onTrick("narrow")},         //
	{"conditions are not looked at", livePart, "ifthere", onTrick("ifthere")},       //
	{"a role outlives its user", livePart, "second", onTrick("second")},             //
	{"templates take wildcards", livePart, "client", takesWildcards},                // CVE-2017-7650
	{"letters are the same in any case", livePart, "exact/X", anyName(func(name string) bool {
		return strings.HasSuffix(name, "/exact/X")
	})},
	{"every SUBSCRIBE is granted", filterPart, "SUBACK", func() *leaky { return &leaky{filter: true} }},
	{"a topic is read that holds what is denied", fetchPart, "mxhole", onTopics(rule.Read, "mxhole")},
	{"a prefix is taken for longer than it is", fetchPart, "mxprex", onTopics(rule.Read, "mxprex")},
	{"what denies a mapped name is not seen", fetchPart, zoneTopic, onTopics(rule.Read, zoneTopic)},
	{"names are listed", fetchPart, "Metadata", onTopics(rule.Describe, "mx")},        // AKHQ, Kafka
	{"a Fetch session outlives the rule", fetchPart, "Fetch session", first("mxrev")}, // CVE-2018-1288
	{"internal topics are seen", callPart, "__firth_sessions", onTopics(rule.Describe, "__firth_")},
	{"groups are not judged", callPart, "mxg-none", on(rule.Group, rule.Read)},                       //
	{"transactional ids are not judged", callPart, "mxt-none", on(rule.TransactionalID, rule.Write)}, // GHSA-47w3
	{"what comes live is not masked", livePart, "overlap masked", bare("/overlap/")},
	{"retained messages are not masked", pastPart, "retained masked", bare("/retained/")},
	{"what a group shares is not masked", livePart, "shared masked", bare("/shared/")},
	{"what is sent again is not masked", awayPart, "again masked", bare("/again/")},
	{"masks of names are none of their topic", fetchPart, "Fetch masked", bare("mxveiln")},
	{"a share group is not masked", sharePart, "ShareFetch masked", bare("mxveil")},
	{"offsets are committed of any topic", callPart, "OffsetCommit", onTopics(rule.Read, "mx")},
	{"offsets are committed in any group", callPart, "TxnOffsetCommit", on(rule.Group, rule.Read)},
	{"offsets are forgotten in any group", callPart, "OffsetDelete", on(rule.Group, rule.Delete)},
	{"what enters a transaction is not judged", callPart, "AddPartitionsToTxn", onTopics(rule.Write, "mx")},
	{"a topology is not judged", callPart, "StreamsGroupHeartbeat", onTopics(rule.Describe, "mx")},
	{"acknowledgements outlive the right", sharePart, "ShareAcknowledge", first("mxrev")},
	{"who may look may change", callPart, "AlterUserScram", on(rule.Cluster, rule.Alter)},
	{"a stream outlives the right", streamPart, "HTTP stream", first("kafka-cluster")},
	{"what is delayed is judged when it comes", delayPart, "later", first("/later/revoked/")},
	{"a delayed will is judged at CONNECT only", delayPart, "willdelayed", first("/willdelayed/")},
	{"what is delayed comes from anywhere", delayPart, "later/nearby", onTrick("nearby")},
	{"templates of what is delayed take wildcards", delayPart, "later/client", takesWildcards},
	{"offsets of any topic are forgotten", callPart, "OffsetDelete", onTopics(rule.Read, "mxhole")},
	{"topics are deleted by who may change them", callPart, "DeleteTopics", onTopics(rule.Delete, "mxlook")},
	{"a share group begins any topic anew", callPart, "AlterShareGroupOffsets", onTopics(rule.Read, "mxprex")},
	{"a share group forgets any topic", callPart, "DeleteShareGroupOffsets", onTopics(rule.Read, "mxno")},
	{"what a share group has of any topic is seen", callPart, "DescribeShareGroupOffsets", onTopics(rule.Describe, "mx")},
	{"topics are made of any name", callPart, "CreateTopics", onTopics(rule.Create, "mx")},
	{"a bridge takes out what its user may not read", bridgePart, "bout", onPath("bout")},
	{"a bridge brings in what its user may not write", bridgePart, "bin", onPath("bin")},
	{"a bridge outlives the right", bridgePart, "bout", first("/bout/denied/")},
	{"a bridge is from everywhere", bridgePart, "bin/ifthere", onTrick("ifthere")},
	{"dead letters are not masked", letterPart, "letters", bare("mx")},
	{"live messages outlive a token", endPart, "ended live", first("/endlive/")},
	{"what a group shares outlives a token", endPart, "ended shared", onPath("endshared")},
	{"what is held back outlives a token", endPart, "ended held", onPath("endheld")},
	{"a Fetch that waits outlives a token", endPart, "waiting Fetch", first("mxlit")},
	{"a stream outlives a token", endPart, "ended stream", first("kafka-cluster")},
	{"what flows by HTTP is not judged", apiPart, "API live", onPath("apilive")},
	{"what flows by HTTP from the past is not judged", apiPart, "API past", onPath("apilive")},
	{"what flows by HTTP outlives the right", apiPart, "API live", first("/apilive/revoked/")},
	{"what flows by HTTP is not masked", apiPart, "API live masked", bare("/apilive/")},
	{"retained messages in a list are not masked", apiPart, "API GET /retained masked", bare("/apiretained/")},
	{"what was retained is not masked", apiPart, "history masked", bare("/apikept/")},
	{"an id is no name", callPart, "OffsetCommit by id", onTopics(rule.Read, "mx")},
}

// onPath is a guard that does not look on a path.
func onPath(path string) func() *leaky {
	return anyName(func(name string) bool { return strings.Contains(name, "/"+path+"/") })
}

// onTrick is a guard that takes the names of a trick for allowed.
func onTrick(trick string) func() *leaky {
	return anyName(func(name string) bool { return strings.Contains(name, "/"+trick+"/") })
}

func anyName(leaks func(name string) bool) func() *leaky {
	return func() *leaky {
		return &leaky{name: func(_ *rule.Subject, _ rule.Operation, name string) bool { return leaks(name) }}
	}
}

// onTopics is a guard that allows an operation on topics of the log that begin so.
func onTopics(o rule.Operation, prefix string) func() *leaky {
	return func() *leaky {
		return &leaky{may: func(_ *rule.Subject, asked rule.Operation, kind rule.Kind, name string) bool {
			return asked == o && kind == rule.Topic && strings.HasPrefix(name, prefix)
		}}
	}
}

func on(kind rule.Kind, o rule.Operation) func() *leaky {
	return func() *leaky {
		return &leaky{may: func(_ *rule.Subject, asked rule.Operation, of rule.Kind, _ string) bool {
			return asked == o && of == kind
		}}
	}
}

// bare is a guard that knows of no masks on names, or topics, with a text in them.
func bare(text string) func() *leaky {
	return func() *leaky {
		return &leaky{bare: func(name string) bool { return strings.Contains(name, text) }}
	}
}

// first is a guard that remembers what it allowed.
func first(about string) func() *leaky {
	return func() *leaky {
		return &leaky{stale: true, same: func(name string) bool { return strings.Contains(name, about) }}
	}
}

// takesWildcards puts what clients are called into templates as it is.
func takesWildcards() *leaky {
	return &leaky{name: func(who *rule.Subject, _ rule.Operation, name string) bool {
		levels := bytes.Split([]byte(name), []byte("/"))
		return len(levels) > 3 && string(levels[2]) == "client" && (who.ClientID == "+" || who.ClientID == "#")
	}}
}

// TestAccessMatrixFindsLeaks plants faults in the guards of the doors, one at a time, and wants each to be found.
func TestAccessMatrixFindsLeaks(t *testing.T) {
	for _, p := range planted {
		t.Run(p.what, func(t *testing.T) {
			t.Parallel()
			all := strangeText()
			l := p.leak()
			m := newMatrix(t, func(a *access.Access) (mqtt.Guard, kafka.Guard, adminGuard) {
				l.Access = a
				return l, l, l
			}, all[:3], p.of)
			m.found = func() bool {
				return slices.ContainsFunc(m.leaks, func(line string) bool { return strings.Contains(line, p.at) })
			}
			m.run()
			for deadline := time.Now().Add(patience / 4); !m.found() && len(m.late) > 0 && time.Now().Before(deadline); {
				<-time.After(10 * time.Millisecond)
				for _, judge := range m.late { // what comes late
					judge()
				}
			}
			if !m.found() {
				t.Errorf("%d leaks, none of %q, among %d cases", len(m.leaks), p.at, m.total())
			}
		})
	}
}
