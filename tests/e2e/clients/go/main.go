// Smoke tests of the Go clients. Each subcommand is one story; it prints a line of JSON that says
// what it saw, or an error and exit code 1. The cluster is the one of $KUBECONFIG.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

type seen map[string]any

var stories = map[string]func(context.Context, *rest.Config) (seen, error){
	"typed":     typed,
	"protobuf":  protobufOnly,
	"informers": informers,
	"dynamic":   dynamicClient,
	"election":  election,
	"envtest":   runEnvtest,
	"manager":   runManager,
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	if err == nil {
		var found seen
		found, err = stories[os.Args[1]](ctx, config)
		if err == nil {
			err = json.NewEncoder(os.Stdout).Encode(found)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// eventually waits for a condition that informers bring about.
func eventually(ctx context.Context, what string, done func() bool) error {
	for !done() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited in vain: %s", what)
		case <-time.After(5 * time.Millisecond):
		}
	}
	return nil
}
