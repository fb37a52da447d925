package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// goPackage is one parsed package: its type declarations, typed constants and names.
type goPackage struct {
	path, short, model, group, version string
	types                              map[string]*goType
	constants                          map[string]string
	enums                              map[string][]string
}

type goType struct {
	spec    *ast.TypeSpec
	imports map[string]string
	markers markers
}

func parsePackage(importPath, folder string) (*goPackage, error) {
	version := path.Base(importPath)
	pkg := &goPackage{
		path: importPath, version: version,
		short:     path.Base(path.Dir(importPath)) + "/" + version,
		types:     map[string]*goType{},
		constants: map[string]string{},
		enums:     map[string][]string{},
	}
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		name := entry.Name()
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") ||
			strings.HasSuffix(name, ".pb.go") {
			continue
		}
		files := token.NewFileSet()
		file, err := parser.ParseFile(files, filepath.Join(folder, name), nil, parser.ParseComments)
		if err != nil {
			return nil, err
		}
		pkg.addFile(files, file)
	}
	pkg.group = pkg.constants["GroupName"]
	if pkg.short == "meta/v1" {
		pkg.group = ""
	}
	if pkg.model == "" {
		return nil, fmt.Errorf("%s: no +k8s:openapi-model-package", importPath)
	}
	return pkg, nil
}

func (p *goPackage) addFile(files *token.FileSet, file *ast.File) {
	imports := map[string]string{}
	for _, spec := range file.Imports {
		importPath, _ := strconv.Unquote(spec.Path.Value)
		name := path.Base(importPath)
		if spec.Name != nil {
			name = spec.Name.Name
		}
		imports[name] = importPath
	}
	for _, group := range file.Comments {
		for _, marker := range parseMarkers(rawText(group)) {
			if marker.name == "k8s:openapi-model-package" && group.End() < file.Name.Pos() {
				p.model = marker.value
			}
		}
	}
	for _, declaration := range file.Decls {
		general, ok := declaration.(*ast.GenDecl)
		if !ok {
			continue
		}
		switch general.Tok {
		case token.TYPE:
			for _, spec := range general.Specs {
				p.addType(files, file, imports, general, spec.(*ast.TypeSpec))
			}
		case token.CONST:
			p.addConstants(general)
		}
	}
}

func (p *goPackage) addType(files *token.FileSet, file *ast.File, imports map[string]string,
	general *ast.GenDecl, spec *ast.TypeSpec) {
	doc := spec.Doc
	if doc == nil {
		doc = general.Doc
	}
	found := parseMarkers(rawText(doc))
	// Markers may also stand in the comment above the documentation, after a blank line.
	start := general.Pos()
	if doc != nil {
		start = doc.Pos()
	}
	line := files.Position(start).Line
	for _, group := range file.Comments {
		if end := files.Position(group.End()).Line; end == line-2 {
			found = append(found, parseMarkers(rawText(group))...)
		}
	}
	p.types[spec.Name.Name] = &goType{spec, imports, found}
}

func (p *goPackage) addConstants(general *ast.GenDecl) {
	for _, spec := range general.Specs {
		value := spec.(*ast.ValueSpec)
		for i, name := range value.Names {
			if i >= len(value.Values) {
				continue
			}
			literal, ok := value.Values[i].(*ast.BasicLit)
			if !ok || literal.Kind != token.STRING {
				continue
			}
			text, _ := strconv.Unquote(literal.Value)
			p.constants[name.Name] = text
			if typed, ok := value.Type.(*ast.Ident); ok {
				p.enums[typed.Name] = append(p.enums[typed.Name], text)
			}
		}
	}
}

type marker struct{ name, value string }

type markers []marker

func (m markers) has(name string) bool {
	for _, each := range m {
		if each.name == name {
			return true
		}
	}
	return false
}

func (m markers) all(name string) []string {
	var values []string
	for _, each := range m {
		if each.name == name {
			values = append(values, each.value)
		}
	}
	return values
}

func (m markers) first(name string) string {
	if values := m.all(name); len(values) > 0 {
		return values[0]
	}
	return ""
}

var markerLine = regexp.MustCompile(`^\s*\+([A-Za-z][\w:./()-]*)(?:=(.*))?$`)

func parseMarkers(raw string) markers {
	var found markers
	for _, line := range strings.Split(raw, "\n") {
		if match := markerLine.FindStringSubmatch(line); match != nil {
			found = append(found, marker{match[1], strings.TrimSpace(match[2])})
		}
	}
	return found
}

// rawText is a comment without its slashes. (CommentGroup.Text drops directive-like lines.)
func rawText(group *ast.CommentGroup) string {
	if group == nil {
		return ""
	}
	var lines []string
	for _, comment := range group.List {
		lines = append(lines, strings.TrimPrefix(comment.Text, "//"))
	}
	return strings.Join(lines, "\n")
}
