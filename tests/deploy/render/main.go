// Renders a chart's templates with Go's own engine, as Helm does; standard library only.
// stdin: {"templates": {path: text}, "contexts": [...]}; stdout: for each context {path: text} or {"error": message}.
package main

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sort"
	"strconv"
	"strings"
	"text/template"
)

type table = map[string]any

// scalar writes a value on one line; JSON is YAML.
func scalar(value any) string {
	encoded, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	return string(encoded)
}

// block writes a value in YAML's block style, so that wrong indentation in a template shows.
func block(value any, indent string) string {
	var lines []string
	switch held := value.(type) {
	case table:
		names := make([]string, 0, len(held))
		for name := range held {
			names = append(names, name)
		}
		sort.Strings(names)
		for _, name := range names {
			lines = append(lines, indent+scalar(name)+":"+inner(held[name], indent))
		}
	case []any:
		for _, one := range held {
			lines = append(lines, indent+"-"+inner(one, indent))
		}
	}
	if len(lines) == 0 {
		return indent + scalar(value)
	}
	return strings.Join(lines, "\n")
}

func inner(value any, indent string) string {
	switch held := value.(type) {
	case table:
		if len(held) > 0 {
			return "\n" + block(held, indent+"  ")
		}
	case []any:
		if len(held) > 0 {
			return "\n" + block(held, indent+"  ")
		}
	}
	return " " + scalar(value)
}

func empty(value any) bool {
	truth, ok := template.IsTrue(value)
	return !ok || !truth
}

func whole(value any) int64 {
	switch held := value.(type) {
	case float64:
		return int64(held)
	case int:
		return int64(held)
	case int64:
		return held
	}
	return 0
}

func indented(width int, text string) string {
	pad := strings.Repeat(" ", width)
	return pad + strings.ReplaceAll(text, "\n", "\n"+pad)
}

// functions are those of Helm and Sprig that the chart uses, argument for argument.
func functions(root *template.Template) template.FuncMap {
	return template.FuncMap{
		"include": func(name string, context any) (string, error) {
			var out strings.Builder
			err := root.ExecuteTemplate(&out, name, context)
			return out.String(), err
		},
		"toYaml":  func(value any) string { return block(value, "") },
		"nindent": func(width int, text string) string { return "\n" + indented(width, text) },
		"quote":   func(value any) string { return strconv.Quote(fmt.Sprint(value)) },
		"default": func(other, value any) any {
			if empty(value) {
				return other
			}
			return value
		},
		"trunc":      func(width int, text string) string { return text[:min(width, len(text))] },
		"trimSuffix": func(suffix, text string) string { return strings.TrimSuffix(text, suffix) },
		"contains":   func(part, text string) bool { return strings.Contains(text, part) },
		"sha256sum":  func(text string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(text))) },
		"int":        func(value any) int { return int(whole(value)) },
		"add":        func(one, other any) int64 { return whole(one) + whole(other) },
		"fail":       func(message string) (string, error) { return "", errors.New(message) },
	}
}

func rendered(templates map[string]string, context table) (map[string]string, error) {
	root := template.New("chart").Option("missingkey=zero")
	root.Funcs(functions(root))
	for path, text := range templates {
		if _, err := root.New(path).Parse(text); err != nil {
			return nil, err
		}
	}
	made := map[string]string{}
	for path := range templates {
		var out strings.Builder
		if err := root.ExecuteTemplate(&out, path, context); err != nil {
			return nil, err
		}
		made[path] = strings.ReplaceAll(out.String(), "<no value>", "")
	}
	return made, nil
}

func main() {
	var asked struct {
		Templates map[string]string
		Contexts  []table
	}
	if err := json.NewDecoder(os.Stdin).Decode(&asked); err != nil {
		panic(err)
	}
	answers := []map[string]string{}
	for _, context := range asked.Contexts {
		made, err := rendered(asked.Templates, context)
		if err != nil {
			made = map[string]string{"error": err.Error()}
		}
		answers = append(answers, made)
	}
	if err := json.NewEncoder(os.Stdout).Encode(answers); err != nil {
		panic(err)
	}
}
