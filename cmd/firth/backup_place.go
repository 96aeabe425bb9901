package main

import (
	"github.com/spf13/cobra"

	"github.com/firthmq/firth/internal/backup"
	"github.com/firthmq/firth/internal/backup/s3"
	"github.com/firthmq/firth/internal/cli/output"
	"github.com/firthmq/firth/internal/kit/vfs"
)

// placeFlags say where an S3-compatible store is, and who asks it.
type placeFlags struct{ s3 s3.Options }

func addPlaceFlags(cmd *cobra.Command) *placeFlags {
	f := &placeFlags{}
	flags := cmd.Flags()
	flags.StringVar(&f.s3.Endpoint, "s3-endpoint", "",
		"S3: `address` of the store, host:port; without it that of AWS, or $AWS_ENDPOINT_URL")
	flags.StringVar(&f.s3.Region, "s3-region", "",
		"S3: region of the bucket, by `name`; without it $AWS_REGION, or the store is asked")
	flags.StringVar(&f.s3.Style, "s3-style", "auto", "S3: where requests name the bucket, `auto|path|host`")
	flags.StringVar(&f.s3.Credentials, "s3-credentials", "",
		"S3: `file` with the keys, as ~/.aws/credentials; without it $AWS_ACCESS_KEY_ID and $AWS_SECRET_ACCESS_KEY")
	flags.StringVar(&f.s3.Profile, "s3-profile", "", "S3: which section of that file, by `name`: default, or $AWS_PROFILE")
	flags.StringVar(&f.s3.CAFile, "s3-cafile", "", "S3: `file` with the certificates to trust, or $AWS_CA_BUNDLE")
	flags.BoolVar(&f.s3.Plain, "s3-plain", false, "S3: http in place of https: who listens can read what is backed up")
	return f
}

// open opens where backups lie; fresh: a folder that is not there is made.
func (f *placeFlags) open(where string, fresh bool) (backup.Place, error) {
	if s3.Is(where) {
		place, err := s3.Open(where, f.s3)
		if err != nil {
			return nil, output.WithCode(output.ExitUsage, err)
		}
		return place, nil
	}
	open := vfs.OpenDisk
	if fresh {
		open = vfs.NewDisk
	}
	disk, err := open(where)
	if err != nil {
		return nil, err
	}
	return backup.InFolder(disk), nil
}
