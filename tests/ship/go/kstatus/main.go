// Command kstatus prints what Flux makes of objects: the status that its own library computes, as JSON, a line each:
// {"input", "status", "message"}; "error" instead where an object can't be read.
//
//	kstatus OBJECT.yaml...
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

type verdict struct {
	Input   string `json:"input"`
	Status  string `json:"status,omitempty"`
	Message string `json:"message,omitempty"`
	Error   string `json:"error,omitempty"`
}

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: kstatus OBJECT.yaml...")
		os.Exit(2)
	}
	lines := json.NewEncoder(os.Stdout)
	for _, path := range os.Args[1:] {
		found, err := compute(path)
		if err != nil {
			found.Error = err.Error()
		}
		found.Input = path
		if err := lines.Encode(found); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
	}
}

func compute(path string) (verdict, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return verdict{}, err
	}
	object := unstructured.Unstructured{}
	asJSON, err := yaml.YAMLToJSON(text)
	if err != nil {
		return verdict{}, err
	}
	// Which keeps whole numbers whole, as the API's answers are read.
	if err := object.UnmarshalJSON(asJSON); err != nil {
		return verdict{}, err
	}
	found, err := status.Compute(&object)
	if err != nil {
		return verdict{}, err
	}
	return verdict{Status: string(found.Status), Message: found.Message}, nil
}
