package node

import (
	"net/http"
	"os"
	"slices"
	"strings"

	"github.com/firthmq/firth/internal/kit/atrest"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/given"
	"github.com/firthmq/firth/internal/log/store"
)

// Encryption says how what is stored is encrypted.
type Encryption struct {
	KeyFile  string // keys, one a line, the newest first; "": none
	KeyEnv   string // the name of a variable of the environment that holds them; "": none
	NewFiles bool   // are encrypted
}

func encryptionOptions() []Option {
	return []Option{
		Option{Key: "encryption.key_file", Type: "path",
			Doc: "The file with the keys that what is stored is encrypted with, one a line, the newest first: firth key " +
				"generate makes one. Nobody else may be able to read it: mode 0600, or 0640 where it belongs to root. " +
				"Without a key nothing is encrypted, and a folder that is does not open. Keep a copy elsewhere: " +
				"without the key nobody reads the data again.",
		}.text(func(c *Config) *string { return &c.Encryption.KeyFile }, func(string) error { return nil }),
		Option{Key: "encryption.key_env", Type: "name of a variable",
			Doc: "The variable of the environment that holds the keys, with commas between them, instead of " +
				"encryption.key_file.",
		}.text(func(c *Config) *string { return &c.Encryption.KeyEnv }, func(string) error { return nil }),
		Option{Key: "encryption.new_files", Default: "true",
			Doc: "Whether new files are encrypted where there is a key. With false what is encrypted is written anew as " +
				"plain files, one after the other; firth key status tells when none is left and the key can go.",
		}.flag(func(c *Config) *bool { return &c.Encryption.NewFiles }),
	}
}

// Keys reads the keys; nil: none are named. Errors: Invalid, NotFound, Denied (others can read them), IO.
func (e Encryption) Keys() (*atrest.Ring, error) {
	keys, err := e.read()
	if keys == nil || err != nil {
		return nil, err
	}
	return atrest.NewRing(keys)
}

func (e Encryption) read() ([]atrest.Wrapper, error) {
	const op = "encryption"
	var text []byte
	switch {
	case e.KeyFile != "" && e.KeyEnv != "":
		return nil, fault.New(fault.Invalid, op, "both encryption.key_file and encryption.key_env are set")
	case e.KeyFile != "":
		var err error
		if text, err = given.ReadPrivate(op, e.KeyFile); err != nil {
			return nil, err
		}
	case e.KeyEnv != "":
		value, ok := os.LookupEnv(e.KeyEnv)
		if !ok {
			return nil, fault.New(fault.NotFound, op, "the environment has no variable %s, which encryption.key_env names",
				e.KeyEnv)
		}
		text = []byte(strings.ReplaceAll(value, ",", "\n"))
	default:
		return nil, nil
	}
	keys, err := atrest.ParseKeys(text)
	if err == nil && len(keys) == 0 {
		err = fault.New(fault.Invalid, op, "there is no key in what encryption.key_file or encryption.key_env names").
			WithHint("firth key generate makes one")
	}
	return keys, err
}

// keyStatus is what the administration tells of the keys.
type keyStatus struct {
	On      bool           `json:"on"`
	Keys    []string       `json:"keys"` // ids, the first one wraps what is new
	Files   int            `json:"files"`
	Bytes   int64          `json:"bytes"`
	Plain   int64          `json:"plain_bytes"`
	Wrapped map[string]int `json:"wrapped"` // files by the id of their key
}

func statusOf(e store.Encryption) keyStatus {
	return keyStatus{On: e.On, Keys: slices.Concat([]string{}, e.Keys), Files: e.Files, Bytes: e.Bytes, Plain: e.Plain,
		Wrapped: e.Sealed}
}

// errInKafka answers what is asked of a log on the disk where there is none.
func errInKafka() error {
	return fault.New(fault.Unsupported, "admin", "the log is in Kafka, and what the brokers store is theirs to encrypt")
}

func (n *Node) adminKeys(*http.Request) (any, error) {
	if n.store == nil {
		return nil, errInKafka()
	}
	e, err := n.store.Encryption()
	return statusOf(e), err
}

// adminRotate reads the keys again and has the first one wrap the data keys of all files.
func (n *Node) adminRotate(r *http.Request) (any, error) {
	if n.store == nil {
		return nil, errInKafka()
	}
	e, err := n.store.Encryption()
	if err != nil {
		return nil, err
	}
	if n.keys != nil {
		n.mu.Lock()
		from := n.cfg.Encryption
		n.mu.Unlock()
		keys, err := from.read()
		if err != nil {
			return nil, err
		}
		for id, files := range e.Sealed {
			if !slices.ContainsFunc(keys, func(k atrest.Wrapper) bool { return k.ID() == id }) {
				return nil, fault.New(fault.Denied, "key.Rotate", "%d files need the key %q, which is not there any more",
					files, id).WithHint("keep old keys behind the new one until no file needs them")
			}
		}
		if err := n.keys.Set(keys); err != nil {
			return nil, err
		}
	}
	if err := n.store.Rewrap(r.Context()); err != nil {
		return nil, err
	}
	n.log.Info("the data keys are wrapped by the first of the keys", "key", n.keys.IDs()[0])
	return n.adminKeys(r)
}
