package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/firthmq/firth/internal/cli/admin"
	"github.com/firthmq/firth/internal/cli/output"
	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/given"
	"github.com/firthmq/firth/internal/kit/vfs"
	"github.com/firthmq/firth/internal/log/store"
	"github.com/firthmq/firth/internal/node"
)

// diagnoseParts say what is in the archive, for its README.
const diagnoseParts = `version.json     the binary, the release of Go, the platform, since when it runs
kernel.txt       the kernel
limits.txt       what the system lets the process have: open files and the like
health.txt       each condition of readiness, and why it is not met
config.yaml      the options in force and where each comes from; of the files that hold secrets it has the names
metrics.txt      /metrics
hour.json        the main metrics of the last hour
log.txt          the last 500 log lines
files.txt        names and sizes of the files in the data folder, and nothing of what is in them
goroutines.txt   what each goroutine is doing
heap.pprof       what is in memory, by who made it: go tool pprof
cpu.pprof        where time goes: go tool pprof
check.json       what firth log check finds, as far as it came in the time that it was given
NAME.error       why there is no NAME
`

func newDiagnoseCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "diagnose",
		Short: "Gather what helps to find a fault, in one archive",
		Long: `Gathers what helps to find a fault in one archive: versions, configuration, health, metrics, the last log
lines, what goroutines do, profiles of memory and time, a check of the log, names and sizes of files. No payload and
no secret is in it; names of topics, clients, users and files are. Look into it before you give it away. Where no
broker answers, it has what the configuration and the data folder tell. README.txt in it says what each file is, and
what is missing.`,
		Example: `  firth diagnose
  firth diagnose --out incident.tar.gz --profile-for 30s --check-for 2m
  firth diagnose --data /var/lib/firth -c /etc/firth/firth.yaml`,
		Args: cobra.NoArgs,
	}
	d := &diagnose{admin: addAdminFlags(cmd), form: formFlag(cmd), began: time.Now().UTC()}
	flags := cmd.Flags()
	flags.StringVar(&d.out, "out", "", "the archive, a `file` (default firth-diagnose-TIME.tar.gz)")
	flags.StringVarP(&d.config, "config", "c", "", "configuration `file`, where no broker answers")
	flags.DurationVar(&d.profile, "profile-for", 10*time.Second,
		"for how long to see where time goes, at most 1m; 0: not at all")
	flags.DurationVar(&d.check, "check-for", 30*time.Second, "for how long to check the log, at most 10m; 0: not at all")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return d.run(cmd) }
	return cmd
}

// diagnose gathers an archive.
type diagnose struct {
	admin          *adminFlags
	form           *output.Form
	out, config    string
	profile, check time.Duration
	began          time.Time
	progress       io.Writer
	parts          []diagnosed
}

// diagnosed is one file of the archive.
type diagnosed struct {
	Name  string `json:"name"`
	Bytes int    `json:"bytes"`
	text  []byte
}

func (d *diagnose) add(name string, text []byte, err error) {
	if err != nil {
		name, text = name+".error", []byte(err.Error()+"\n")
	}
	fmt.Fprintf(d.progress, "%s, %d bytes\n", name, len(text))
	d.parts = append(d.parts, diagnosed{name, len(text), text})
}

func (d *diagnose) run(cmd *cobra.Command) error {
	ctx, stop := interrupted(cmd)
	defer stop()
	d.progress = cmd.ErrOrStderr()
	if d.out == "" {
		d.out = "firth-diagnose-" + d.began.Format("20060102T150405Z") + ".tar.gz"
	}
	folder, err := vfs.OpenDisk(filepath.Dir(d.out))
	if err != nil {
		return err
	}
	err = d.ask(ctx, cmd)
	if output.Code(err) == output.ExitConnect {
		fmt.Fprintln(d.progress, "no broker answers: the configuration and the data folder are looked at")
		d.add("broker", nil, err)
		err = d.offline(ctx)
	}
	if err != nil {
		return err
	}
	kernel, err := given.Read("diagnose", "/proc/version")
	d.add("kernel.txt", kernel, err)
	text, err := d.archive()
	if err == nil {
		err = vfs.WriteWhole(folder, filepath.Base(d.out), text)
	}
	if err != nil {
		return err
	}
	if *d.form == output.FormJSON {
		return output.JSON(cmd.OutOrStdout(), struct {
			File  string      `json:"file"`
			Bytes int         `json:"bytes"`
			Parts []diagnosed `json:"parts"`
		}{d.out, len(text), d.parts})
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %s, %d bytes\n", d.out, plural(len(d.parts), "file"), len(text))
	return err
}

// ask has the broker tell of itself.
func (d *diagnose) ask(ctx context.Context, cmd *cobra.Command) error {
	client, err := d.admin.client(cmd)
	if err != nil {
		return err
	}
	q := url.Values{"profile": {d.profile.String()}, "check": {d.check.String()}}
	fmt.Fprintf(d.progress, "asking the broker: a profile of %v, and a check of the log for at most %v\n",
		d.profile, d.check)
	body, err := client.Open(ctx, admin.Request{Method: "POST", Path: "/diagnose", Query: q, In: struct{}{}})
	if err != nil {
		return err
	}
	defer body.Close()
	in := tar.NewReader(body)
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		var text []byte
		if err == nil {
			text, err = io.ReadAll(in)
		}
		if err != nil { // what came is worth something
			d.add("broker", nil, fault.New(fault.IO, "diagnose", "the broker broke off: %w", err))
			return nil // it is told in the archive
		}
		d.add(filepath.Base(h.Name), text, nil)
		if h.Name == "version.json" {
			d.limits(text)
		}
	}
}

// limits are those of the process of the broker, which is on this machine.
func (d *diagnose) limits(version []byte) {
	var of struct{ PID int }
	err := json.Unmarshal(version, &of)
	var text []byte
	if err == nil {
		text, err = given.Read("diagnose", fmt.Sprintf("/proc/%d/limits", of.PID))
	}
	d.add("limits.txt", text, err)
}

// offline is what can be had without a broker.
func (d *diagnose) offline(ctx context.Context) error {
	version, err := json.Marshal(node.BuildVersion())
	d.add("version.json", append(version, '\n'), err)
	s := &sources{file: d.config, data: d.admin.data, given: func(string) bool { return false }}
	var b bytes.Buffer
	c, err := s.load()
	if err == nil {
		err = c.WriteYAML(&b, true)
	}
	d.add("config.yaml", b.Bytes(), err)
	disk, err := vfs.OpenDisk(d.admin.data)
	if err != nil {
		d.add("files.txt", nil, err)
		return nil // it is told in the archive
	}
	var files bytes.Buffer
	err = node.ListFiles(ctx, disk, &files)
	d.add("files.txt", files.Bytes(), err)
	if d.check > 0 {
		text, err := d.checkStopped(ctx, disk)
		d.add("check.json", text, err)
	}
	return nil
}

// checkStopped checks a log that nobody writes.
func (d *diagnose) checkStopped(ctx context.Context, disk vfs.FS) (text []byte, err error) {
	o, err := store.OpenOffline(ctx, disk, nil)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, o.Close()) }()
	within, cancel := context.WithTimeout(ctx, d.check)
	defer cancel()
	said, err := node.CheckLog(func(report func(store.Finding)) (store.Checked, error) {
		return o.Check(within, report, nil)
	})
	if err != nil {
		return nil, err
	}
	return json.Marshal(said)
}

// archive is all of it, with a README in front.
func (d *diagnose) archive() ([]byte, error) {
	var readme strings.Builder
	fmt.Fprintf(&readme, "firth diagnose, %s\n\n%s\nMissing here:\n", d.began.Format(time.RFC3339), diagnoseParts)
	missing := 0
	for _, p := range d.parts {
		if name, is := strings.CutSuffix(p.Name, ".error"); is {
			missing++
			fmt.Fprintf(&readme, "%s: %s", name, p.text)
		}
	}
	if missing == 0 {
		readme.WriteString("nothing\n")
	}
	all := append([]diagnosed{{"README.txt", readme.Len(), []byte(readme.String())}}, d.parts...)
	var b bytes.Buffer
	packed := gzip.NewWriter(&b)
	out := tar.NewWriter(packed)
	for _, p := range all {
		h := &tar.Header{Name: "firth-diagnose/" + p.Name, Size: int64(len(p.text)), Mode: 0o600, ModTime: d.began}
		if err := out.WriteHeader(h); err != nil {
			return nil, fault.Wrap(fault.Internal, "diagnose", err)
		}
		if _, err := out.Write(p.text); err != nil {
			return nil, fault.Wrap(fault.Internal, "diagnose", err)
		}
	}
	err := errors.Join(out.Close(), packed.Close())
	return b.Bytes(), fault.Wrap(fault.Internal, "diagnose", err)
}
