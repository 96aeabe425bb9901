// Command s3 is an S3-compatible store on a folder, for the gate of backups: VersityGW, which somebody else has
// written.
//
//	S3_KEY=key S3_SECRET=secret s3 FOLDER METADATA ADDRESS CERTIFICATE KEY
package main

import (
	"context"
	"errors"
	"log"
	"os"
	"os/signal"
	"syscall"

	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/embedgw"
)

func main() {
	if err := serve(os.Args[1:]); err != nil {
		log.Fatal(err)
	}
}

func serve(args []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if len(args) != 5 {
		return errors.New("five arguments are wanted")
	}
	about, err := meta.NewSideCar(args[1])
	if err != nil {
		return err
	}
	be, err := posix.New(args[0], about, posix.PosixOpts{SideCarDir: args[1]})
	if err != nil {
		return err
	}
	return embedgw.RunVersityGW(ctx, be, &embedgw.Config{RootUserAccess: os.Getenv("S3_KEY"),
		RootUserSecret: os.Getenv("S3_SECRET"), Ports: []string{args[2]}, CertFile: args[3], KeyFile: args[4],
		MaxConnections: 1000, MaxRequests: 1000, MultipartMaxParts: 10_000, Quiet: true})
}
