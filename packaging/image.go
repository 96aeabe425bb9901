package main

import (
	"archive/tar"
	"bytes"
	"encoding/pem"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/google/go-containerregistry/pkg/compression"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// nobody is the user of the image: the one that images without a shell have for who is not root.
const nobody = 65532

// image writes one OCI image for all platforms of Linux: a layout in an archive, which podman, skopeo, nerdctl and
// docker load.
func (r *release) image(binaries []*binary) error {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	var version string
	for _, b := range binaries {
		if b.os != "linux" {
			continue
		}
		image, err := r.imageOf(b)
		if err != nil {
			return err
		}
		platform := &v1.Platform{OS: b.os, Architecture: b.arch}
		if b.variant != "" {
			platform.Variant = "v" + b.variant
		}
		version = b.version
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add: image, Descriptor: v1.Descriptor{Platform: platform},
		})
	}
	if version == "" {
		return nil
	}
	folder, err := os.MkdirTemp("", "firth-packaging-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	if _, err := layout.Write(folder, index); err != nil {
		return err
	}
	return create(filepath.Join(r.out, "firth_"+version+"_oci.tar"), func(w io.Writer) error {
		return r.pack(w, folder)
	})
}

// pack writes a folder as an archive, in the order of names.
func (r *release) pack(w io.Writer, folder string) error {
	t := tar.NewWriter(w)
	err := filepath.WalkDir(folder, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(folder, path)
		if err != nil {
			return err
		}
		return r.entry(t, &tar.Header{Name: filepath.ToSlash(name), Mode: 0o644}, text)
	})
	if err != nil {
		return err
	}
	return t.Close()
}

// entry writes a file, or a folder if the name ends with a slash.
func (r *release) entry(t *tar.Writer, h *tar.Header, text []byte) error {
	h.Size, h.ModTime, h.Format = int64(len(text)), r.time, tar.FormatUSTAR
	if err := t.WriteHeader(h); err != nil {
		return err
	}
	_, err := t.Write(text)
	return err
}

func (r *release) imageOf(b *binary) (v1.Image, error) {
	files, err := r.files(b)
	if err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(
		func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(files)), nil },
		tarball.WithMediaType(types.OCILayer), tarball.WithCompression(compression.GZip))
	if err != nil {
		return nil, err
	}
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	made := v1.Time{Time: r.time}
	image, err = mutate.Append(image, mutate.Addendum{
		Layer: layer, MediaType: types.OCILayer, History: v1.History{Created: made, CreatedBy: "make release"},
	})
	if err != nil {
		return nil, err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.Created, config.OS, config.Architecture, config.Variant = made, b.os, b.arch, ""
	if b.variant != "" {
		config.Variant = "v" + b.variant
	}
	config.Config = v1.Config{
		User:       "65532:65532",
		Entrypoint: []string{"/usr/bin/firth"},
		Cmd:        []string{"serve"},
		// firth.yaml is read from where it starts.
		WorkingDir:   "/etc/firth",
		Env:          []string{"PATH=/usr/bin", "FIRTH_DATA=/var/lib/firth"},
		Volumes:      map[string]struct{}{"/var/lib/firth": {}},
		ExposedPorts: map[string]struct{}{"1883/tcp": {}, "8083/tcp": {}, "9092/tcp": {}, "8080/tcp": {}},
		StopSignal:   "SIGTERM",
		Labels: map[string]string{
			"org.opencontainers.image.title":    "firth",
			"org.opencontainers.image.version":  b.version,
			"org.opencontainers.image.licenses": "Apache-2.0",
		},
		Healthcheck: &v1.HealthConfig{
			Test:     []string{"CMD", "/usr/bin/firth", "health"},
			Interval: 15 * time.Second, Timeout: 10 * time.Second, StartPeriod: time.Minute, Retries: 3,
		},
	}
	return mutate.ConfigFile(image, config)
}

// files are the one layer: the binary, its folders, who it runs as, and the authorities that it trusts.
func (r *release) files(b *binary) ([]byte, error) {
	code, err := b.read()
	if err != nil {
		return nil, err
	}
	licence, err := os.ReadFile(filepath.Join(r.root, "LICENSE"))
	if err != nil {
		return nil, err
	}
	const own = "firth:x:65532:65532:firth:/var/lib/firth:/sbin/nologin\n"
	entries := []struct {
		name string
		mode int64
		uid  int
		text []byte
	}{
		{"etc/", 0o755, 0, nil},
		{"etc/firth/", 0o755, 0, nil},
		{"etc/group", 0o644, 0, []byte("root:x:0:\nfirth:x:65532:\n")},
		{"etc/passwd", 0o644, 0, []byte("root:x:0:0:root:/:/sbin/nologin\n" + own)},
		{"etc/ssl/", 0o755, 0, nil},
		{"etc/ssl/certs/", 0o755, 0, nil},
		{"etc/ssl/certs/ca-certificates.crt", 0o644, 0, authorities()},
		{"tmp/", 0o1777, 0, nil},
		{"usr/", 0o755, 0, nil},
		{"usr/bin/", 0o755, 0, nil},
		{"usr/bin/firth", 0o755, 0, code},
		{"usr/share/", 0o755, 0, nil},
		{"usr/share/doc/", 0o755, 0, nil},
		{"usr/share/doc/firth/", 0o755, 0, nil},
		{"usr/share/doc/firth/LICENSE", 0o644, 0, licence},
		{"var/", 0o755, 0, nil},
		{"var/lib/", 0o755, 0, nil},
		{"var/lib/firth/", 0o700, nobody, nil},
	}
	var text bytes.Buffer
	t := tar.NewWriter(&text)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Mode: e.mode, Uid: e.uid, Gid: e.uid, Typeflag: tar.TypeReg}
		if e.text == nil {
			h.Typeflag = tar.TypeDir
		}
		if err := r.entry(t, h, e.text); err != nil {
			return nil, err
		}
	}
	err = t.Close()
	return text.Bytes(), err
}

// authorities are those that Mozilla trusts for servers, without those that it trusts for some names only.
func authorities() []byte {
	var all [][]byte
	for root := range bundle.Roots() {
		if root.Constraint == nil {
			all = append(all, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}))
		}
	}
	slices.SortFunc(all, bytes.Compare)
	return bytes.Join(all, nil)
}
