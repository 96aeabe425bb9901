package s3

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/firthmq/firth/internal/kit/fault"
	"github.com/firthmq/firth/internal/kit/given"
)

// Options say where a store is, and who asks it. What is empty is taken from the environment, by the names of AWS.
type Options struct {
	// Endpoint is the address of the store, host[:port] or https://host[:port]; empty: AWS_ENDPOINT_URL_S3,
	// AWS_ENDPOINT_URL, or that of AWS.
	Endpoint string
	// Plain asks for http in place of https.
	Plain bool
	// Region is that of the bucket; empty: AWS_REGION, AWS_DEFAULT_REGION, or the store is asked.
	Region string
	// Style is where the name of the bucket stands: path, host, or auto: host for AWS and the like.
	Style string
	// Credentials is a file as ~/.aws/credentials, which nobody else may be able to read; empty: those of the
	// environment, of AWS_SHARED_CREDENTIALS_FILE, or of the role of the machine if the environment names one.
	Credentials string
	// Profile is the section of Credentials; empty: AWS_PROFILE, or default.
	Profile string
	// CAFile holds the certificates to trust; empty: AWS_CA_BUNDLE, or those that the system trusts.
	CAFile string
	// Attempts is how often a request is made at most that fails; 0: 10.
	Attempts int
}

const awsEndpoint = "s3.amazonaws.com"

// firstOf is the first variable of the environment that is set.
func firstOf(names ...string) string {
	for _, name := range names {
		if v := os.Getenv(name); v != "" {
			return v
		}
	}
	return ""
}

func (o *Options) client() (*minio.Core, error) {
	host, err := o.host()
	if err != nil {
		return nil, err
	}
	who, err := o.credentials()
	if err != nil {
		return nil, err
	}
	transport, err := o.transport()
	if err != nil {
		return nil, err
	}
	style := map[string]minio.BucketLookupType{"": minio.BucketLookupAuto, "auto": minio.BucketLookupAuto,
		"path": minio.BucketLookupPath, "host": minio.BucketLookupDNS}
	lookup, ok := style[o.Style]
	if !ok {
		return nil, fault.New(fault.Invalid, op, "%q is none of auto, path, host", o.Style)
	}
	core, err := minio.NewCore(host, &minio.Options{Creds: who, Secure: !o.Plain, Transport: transport,
		Region: cmp.Or(o.Region, firstOf("AWS_REGION", "AWS_DEFAULT_REGION")), BucketLookup: lookup, MaxRetries: o.Attempts})
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, op, err)
	}
	return core, nil
}

// host is host[:port] of the endpoint. What is not asked for in so many words is never sent in the clear.
func (o *Options) host() (string, error) {
	text := cmp.Or(o.Endpoint, firstOf("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"), awsEndpoint)
	if !strings.Contains(text, "://") {
		text = "https://" + text
		if o.Plain {
			text = "http" + strings.TrimPrefix(text, "https")
		}
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || strings.Trim(u.Path, "/") != "" ||
		u.Scheme != "http" && u.Scheme != "https":
		return "", fault.New(fault.Invalid, op, "the endpoint is not of the form https://host:port")
	case u.Scheme == "http" && !o.Plain:
		return "", fault.New(fault.Invalid, op, "the endpoint is http: whoever listens would read the messages").
			WithHint("--s3-plain asks for it")
	case u.Scheme == "https" && o.Plain:
		return "", fault.New(fault.Invalid, op, "the endpoint is https, and http is asked for")
	}
	return u.Host, nil
}

// credentials looks for who asks, without asking anybody yet.
func (o *Options) credentials() (*credentials.Credentials, error) {
	file := o.Credentials
	if file == "" && (os.Getenv("AWS_ACCESS_KEY_ID") == "") != (os.Getenv("AWS_SECRET_ACCESS_KEY") == "") {
		return nil, fault.New(fault.Invalid, op, "only one of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY is set")
	}
	if file == "" && os.Getenv("AWS_ACCESS_KEY_ID") != "" {
		return credentials.NewEnvAWS(), nil
	}
	if file = cmp.Or(file, os.Getenv("AWS_SHARED_CREDENTIALS_FILE")); file != "" {
		if _, err := given.ReadPrivate(op, file); err != nil {
			return nil, err
		}
		who := credentials.NewFileAWSCredentials(file, o.Profile)
		if v, err := who.GetWithContext(nil); err != nil || v.AccessKeyID == "" {
			return nil, fault.New(fault.Invalid, op, "%s has no key of the profile", file).
				WithHint("as ~/.aws/credentials: [default], aws_access_key_id = ..., aws_secret_access_key = ...")
		}
		return who, nil
	}
	if firstOf("AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
		"AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_EC2_METADATA_SERVICE_ENDPOINT") != "" {
		return credentials.NewIAM(""), nil
	}
	return nil, fault.New(fault.Invalid, op, "there are no credentials").
		WithHint("set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a file: --s3-credentials FILE")
}

func (o *Options) transport() (*http.Transport, error) {
	t, err := minio.DefaultTransport(!o.Plain)
	if err != nil {
		return nil, fault.Wrap(fault.IO, op, err)
	}
	if o.Plain {
		return t, nil
	}
	t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	if file := cmp.Or(o.CAFile, os.Getenv("AWS_CA_BUNDLE")); file != "" {
		pem, err := given.Read(op, file)
		if err != nil {
			return nil, err
		}
		if t.TLSClientConfig.RootCAs = x509.NewCertPool(); !t.TLSClientConfig.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fault.New(fault.Invalid, op, "%s holds no certificate", file)
		}
	}
	return t, nil
}
