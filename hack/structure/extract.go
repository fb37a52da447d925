package main

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"reflect"
	"sort"
	"strconv"
	"strings"
)

// primitives are the types that have a JSON form of their own; %names are read by
// apis/schemas.py.
var primitives = map[string]string{
	"k8s.io/apimachinery/pkg/apis/meta/v1.Time":                     "%time",
	"k8s.io/apimachinery/pkg/apis/meta/v1.MicroTime":                "%microtime",
	"k8s.io/apimachinery/pkg/apis/meta/v1.Duration":                 "%duration",
	"k8s.io/apimachinery/pkg/apis/meta/v1.FieldsV1":                 "%fields",
	"k8s.io/apimachinery/pkg/api/resource.Quantity":                 "%quantity",
	"k8s.io/apimachinery/pkg/util/intstr.IntOrString":               "%intstr",
	"k8s.io/apimachinery/pkg/runtime.RawExtension":                  "%raw",
	"k8s.io/apimachinery/pkg/types.UID":                             "%uid",
	"k8s.io/apimachinery/pkg/types.NodeName":                        "%nodename",
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1.JSON": "%json",
}

var builtins = map[string]bool{
	"string": true, "bool": true, "int32": true, "int64": true, "float64": true,
}

const kindMarker = "k8s:deepcopy-gen:interfaces"

type extractor struct {
	packages map[string]*goPackage
	reached  map[string]bool
}

// reachKinds marks everything that the kinds of a package refer to.
func (e *extractor) reachKinds(pkg *goPackage) {
	if pkg.short == "scheduling/v1alpha3" {
		return // not served: only types that batch/v1 embeds
	}
	for name, declared := range pkg.types {
		if isKind(declared) || (pkg.short == "meta/v1" && !primitiveIn(pkg, name)) {
			e.reach(pkg, name)
		}
	}
}

// isKind tells the registered kinds: runtime.Objects with an embedded TypeMeta.
func isKind(declared *goType) bool {
	structure, ok := declared.spec.Type.(*ast.StructType)
	if !ok || !embedsTypeMeta(structure) {
		return false
	}
	for _, value := range declared.markers.all(kindMarker) {
		if strings.HasSuffix(value, "runtime.Object") {
			return true
		}
	}
	return false
}

func embedsTypeMeta(structure *ast.StructType) bool {
	for _, field := range structure.Fields.List {
		if len(field.Names) > 0 {
			continue
		}
		switch node := field.Type.(type) {
		case *ast.Ident:
			if node.Name == "TypeMeta" {
				return true
			}
		case *ast.SelectorExpr:
			if node.Sel.Name == "TypeMeta" {
				return true
			}
		}
	}
	return false
}

func primitiveIn(pkg *goPackage, name string) bool {
	_, found := primitives[pkg.path+"."+name]
	return found
}

func (e *extractor) reach(pkg *goPackage, name string) {
	key := pkg.path + "." + name
	declared, found := pkg.types[name]
	if !found || e.reached[key] {
		return
	}
	if _, isStruct := declared.spec.Type.(*ast.StructType); !isStruct && pkg.short == "meta/v1" {
		if _, isInterface := declared.spec.Type.(*ast.InterfaceType); isInterface {
			return
		}
	}
	e.reached[key] = true
	ast.Inspect(declared.spec.Type, func(node ast.Node) bool {
		switch node := node.(type) {
		case *ast.SelectorExpr:
			if path, found := declared.imports[node.X.(*ast.Ident).Name]; found {
				if other, found := e.packages[path]; found && !primitiveIn(other, node.Sel.Name) {
					e.reach(other, node.Sel.Name)
				}
			}
			return false
		case *ast.Ident:
			if !primitiveIn(pkg, node.Name) {
				e.reach(pkg, node.Name)
			}
		}
		return true
	})
}

func (e *extractor) extract(pkg *goPackage) (map[string]json.RawMessage, error) {
	result := map[string]json.RawMessage{}
	for name, declared := range pkg.types {
		if !e.reached[pkg.path+"."+name] {
			continue
		}
		facts, err := e.typeFacts(pkg, name, declared)
		if err != nil {
			if pkg.short == "meta/v1" && !isKind(declared) {
				continue // helpers that are no API types
			}
			return nil, fmt.Errorf("%s.%s: %w", pkg.short, name, err)
		}
		text, err := json.Marshal(facts)
		if err != nil {
			return nil, err
		}
		result[name] = text
	}
	return result, nil
}

type typeFacts struct {
	Kind    bool     `json:"kind,omitempty"`
	Alias   string   `json:"alias,omitempty"`
	Enum    []string `json:"enum,omitempty"`
	Message bool     `json:"message,omitempty"`
	Atomic  bool     `json:"atomic,omitempty"`
	Fields  [][]any  `json:"fields,omitempty"`
}

func (e *extractor) typeFacts(pkg *goPackage, name string, declared *goType) (*typeFacts, error) {
	facts := &typeFacts{
		Kind:    isKind(declared),
		Message: declared.markers.has("protobuf.nullable"),
		Atomic:  isAtomic(declared.markers),
	}
	structure, ok := declared.spec.Type.(*ast.StructType)
	if !ok {
		alias, err := e.expression(pkg, declared, declared.spec.Type)
		if err != nil {
			return nil, err
		}
		facts.Alias = alias
		if declared.markers.has("enum") {
			facts.Enum = append(facts.Enum, pkg.enums[name]...)
			sort.Strings(facts.Enum)
		}
		return facts, nil
	}
	facts.Fields = [][]any{}
	for _, field := range structure.Fields.List {
		row, err := e.fieldRow(pkg, declared, field)
		if err != nil {
			return nil, err
		}
		if row != nil {
			facts.Fields = append(facts.Fields, row)
		}
	}
	return facts, nil
}

func isAtomic(m markers) bool {
	return m.first("mapType") == "atomic" || m.first("structType") == "atomic"
}

// fieldRow is [json name, type, protobuf number, flags, extra], cut after the last fact.
func (e *extractor) fieldRow(pkg *goPackage, declared *goType, field *ast.Field) ([]any, error) {
	var tag reflect.StructTag
	if field.Tag != nil {
		text, err := strconv.Unquote(field.Tag.Value)
		if err != nil {
			return nil, err
		}
		tag = reflect.StructTag(text)
	}
	words := strings.Split(tag.Get("json"), ",")
	jsonName, flags := words[0], ""
	number, protobufName := protobufNumber(tag.Get("protobuf"))
	if jsonName == "-" {
		return nil, nil
	}
	if jsonName == "" {
		if len(field.Names) == 0 {
			flags = "i"
		} else if protobufName != "" {
			jsonName = protobufName // JSONSchemaPropsOr…: own JSON form
		} else {
			return nil, nil
		}
	}
	if len(field.Names) > 0 && !field.Names[0].IsExported() {
		return nil, nil
	}
	found := parseMarkers(rawText(field.Doc))
	omitEmpty := false
	for _, word := range words[1:] {
		switch word {
		case "omitempty":
			flags, omitEmpty = flags+"o", true
		case "omitzero":
			flags += "z"
		case "inline":
			if !strings.Contains(flags, "i") {
				flags += "i"
			}
		}
	}
	if found.has("required") || (!found.has("optional") && !omitEmpty) {
		if !strings.Contains(flags, "i") {
			flags += "q"
		}
	}
	text, err := e.expression(pkg, declared, field.Type)
	if err != nil {
		return nil, err
	}
	extra, err := extraFacts(pkg, tag, found)
	if err != nil {
		return nil, err
	}
	row := []any{jsonName, text, number, flags, extra}
	for len(row) > 2 {
		last := row[len(row)-1]
		if last != 0 && last != "" && !isEmptyMap(last) {
			break
		}
		row = row[:len(row)-1]
	}
	return row, nil
}

func isEmptyMap(value any) bool {
	m, ok := value.(map[string]any)
	return ok && len(m) == 0
}

func protobufNumber(tag string) (int, string) {
	words, name := strings.Split(tag, ","), ""
	if len(words) < 2 {
		return 0, ""
	}
	for _, word := range words {
		if value, ok := strings.CutPrefix(word, "name="); ok {
			name = value
		}
	}
	number, _ := strconv.Atoi(words[1])
	return number, name
}

func extraFacts(pkg *goPackage, tag reflect.StructTag, found markers) (map[string]any, error) {
	extra := map[string]any{}
	if value := tag.Get("patchStrategy"); value != "" {
		extra["ps"] = strings.Split(value, ",")
	}
	if value := tag.Get("patchMergeKey"); value != "" {
		extra["pk"] = value
	}
	if value := found.first("listType"); value != "" && value != "atomic" {
		extra["lt"] = value
	} else if value == "atomic" {
		extra["lt"] = "atomic"
	}
	if values := found.all("listMapKey"); len(values) > 0 {
		extra["mk"] = values
	}
	if isAtomic(found) {
		extra["at"] = true
	} else if found.first("mapType") == "granular" || found.first("structType") == "granular" {
		extra["at"] = false // overrides the type's own marker
	}
	if value := found.first("default"); value != "" {
		if name, ok := strings.CutPrefix(value, "ref("); ok {
			constant, known := pkg.constants[strings.TrimSuffix(name, ")")]
			if !known {
				return nil, fmt.Errorf("unknown constant in +default=%s", value)
			}
			extra["d"] = constant
		} else {
			var decoded any
			if err := json.Unmarshal([]byte(value), &decoded); err != nil {
				return nil, fmt.Errorf("+default=%s: %w", value, err)
			}
			extra["d"] = decoded
		}
	}
	return extra, nil
}

// expression spells a type: string, *T, []T, {}T (a map from strings), bytes, Name (same
// package), group/version.Name, or one of the primitives.
func (e *extractor) expression(pkg *goPackage, declared *goType, node ast.Expr) (string, error) {
	switch node := node.(type) {
	case *ast.Ident:
		if builtins[node.Name] {
			return node.Name, nil
		}
		if special, found := primitives[pkg.path+"."+node.Name]; found {
			return special, nil
		}
		if _, found := pkg.types[node.Name]; found {
			return node.Name, nil
		}
		return "", fmt.Errorf("unknown type %s", node.Name)
	case *ast.SelectorExpr:
		path := declared.imports[node.X.(*ast.Ident).Name]
		if special, found := primitives[path+"."+node.Sel.Name]; found {
			return special, nil
		}
		if other, found := e.packages[path]; found {
			return other.short + "." + node.Sel.Name, nil
		}
		return "", fmt.Errorf("unknown type %s.%s", path, node.Sel.Name)
	case *ast.StarExpr:
		inner, err := e.expression(pkg, declared, node.X)
		return "*" + inner, err
	case *ast.ArrayType:
		if name, ok := node.Elt.(*ast.Ident); ok && name.Name == "byte" {
			return "bytes", nil
		}
		inner, err := e.expression(pkg, declared, node.Elt)
		return "[]" + inner, err
	case *ast.MapType:
		inner, err := e.expression(pkg, declared, node.Value)
		return "{}" + inner, err
	}
	return "", fmt.Errorf("unknown type expression %T", node)
}
