// Command structure prints the facts about Kubernetes' API types that Pilothouse needs, as JSON.
//
// It reads the Go sources of the pinned k8s.io modules (go.mod) and keeps field names, types,
// protobuf numbers and markers; comments and descriptions stay behind. The output is
// apis/structure.json; apis/structure.py describes its shape and is its only reader.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
)

// served lists the packages of all group versions that a default kube-apiserver serves,
// with the packages that these refer to.
var served = []string{
	"k8s.io/api/admissionregistration/v1",
	"k8s.io/api/apps/v1",
	"k8s.io/api/authentication/v1",
	"k8s.io/api/authorization/v1",
	"k8s.io/api/autoscaling/v1",
	"k8s.io/api/autoscaling/v2",
	"k8s.io/api/batch/v1",
	"k8s.io/api/certificates/v1",
	"k8s.io/api/coordination/v1",
	"k8s.io/api/core/v1",
	"k8s.io/api/discovery/v1",
	"k8s.io/api/events/v1",
	"k8s.io/api/flowcontrol/v1",
	"k8s.io/api/networking/v1",
	"k8s.io/api/node/v1",
	"k8s.io/api/policy/v1",
	"k8s.io/api/rbac/v1",
	"k8s.io/api/resource/v1",
	"k8s.io/api/scheduling/v1",
	"k8s.io/api/scheduling/v1alpha3",
	"k8s.io/api/storage/v1",
	"k8s.io/api/storagemigration/v1",
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1",
	"k8s.io/apimachinery/pkg/apis/meta/v1",
	"k8s.io/kube-aggregator/pkg/apis/apiregistration/v1",
}

type packageOut struct {
	Model   string                     `json:"model"`
	Group   string                     `json:"group"`
	Version string                     `json:"version"`
	Types   map[string]json.RawMessage `json:"types"`
}

type output struct {
	Version  string                 `json:"version"`
	Packages map[string]*packageOut `json:"packages"`
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "structure:", err)
		os.Exit(1)
	}
}

func run() error {
	folders, version, err := moduleFolders()
	if err != nil {
		return err
	}
	packages := map[string]*goPackage{}
	for _, path := range served {
		folder := folderOf(folders, path)
		if folder == "" {
			return fmt.Errorf("%s: no module holds it", path)
		}
		parsed, err := parsePackage(path, folder)
		if err != nil {
			return err
		}
		packages[path] = parsed
	}
	out := output{Version: version, Packages: map[string]*packageOut{}}
	extractor := &extractor{packages: packages, reached: map[string]bool{}}
	for _, path := range served {
		pkg := packages[path]
		extractor.reachKinds(pkg)
	}
	for _, path := range served {
		pkg := packages[path]
		types, err := extractor.extract(pkg)
		if err != nil {
			return err
		}
		out.Packages[pkg.short] = &packageOut{pkg.model, pkg.group, pkg.version, types}
	}
	return write(out)
}

// write prints one type a line, so that a change of the API is a readable diff.
func write(out output) error {
	w := bufio.NewWriter(os.Stdout)
	defer w.Flush()
	fmt.Fprintf(w, "{\"version\":%q,\"packages\":{\n", out.Version)
	for i, name := range sortedKeys(out.Packages) {
		pkg := out.Packages[name]
		fmt.Fprintf(w, "%s%q:{\"model\":%q,\"group\":%q,\"version\":%q,\"types\":{\n",
			comma(i), name, pkg.Model, pkg.Group, pkg.Version)
		for j, typeName := range sortedKeys(pkg.Types) {
			fmt.Fprintf(w, "%s%q:%s\n", comma(j), typeName, pkg.Types[typeName])
		}
		fmt.Fprint(w, "}}\n")
	}
	_, err := fmt.Fprint(w, "}}\n")
	return err
}

func comma(i int) string {
	if i == 0 {
		return ""
	}
	return ","
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	return keys
}

// moduleFolders asks the go command where the pinned modules lie.
func moduleFolders() (map[string]string, string, error) {
	command := exec.Command("go", "list", "-m", "-f", "{{.Path}} {{.Version}} {{.Dir}}",
		"k8s.io/api", "k8s.io/apimachinery", "k8s.io/apiextensions-apiserver", "k8s.io/kube-aggregator")
	command.Stderr = os.Stderr
	text, err := command.Output()
	if err != nil {
		return nil, "", err
	}
	folders, version := map[string]string{}, ""
	for _, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
		words := strings.SplitN(line, " ", 3)
		if len(words) < 3 || words[2] == "" {
			return nil, "", fmt.Errorf("%s: run `go mod download` first", words[0])
		}
		folders[words[0]] = words[2]
		version = "v1" + strings.TrimPrefix(words[1], "v0")
	}
	return folders, version, nil
}

func folderOf(modules map[string]string, path string) string {
	for module, folder := range modules {
		if rest, ok := strings.CutPrefix(path, module+"/"); ok {
			return filepath.Join(folder, filepath.FromSlash(rest))
		}
	}
	return ""
}
