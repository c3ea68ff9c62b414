// Command argocd-health runs the health check of a folder of Argo CD's resource_customizations over its test data, as Argo CD runs
// one that stands in argocd-cm: a new Lua state with no more libraries than package, base and table.
//
// It prints the health of each object as JSON, a line each: {"input", "status", "message"}; "error" instead where the script fails.
//
//	argocd-health health.lua OBJECT.yaml...
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	lua "github.com/yuin/gopher-lua"
	"sigs.k8s.io/yaml"
)

// limit is how long Argo CD lets a script run.
const limit = time.Second

type verdict struct {
	Input   string `json:"input"`
	Status  string `json:"status,omitempty"`
	Message string `json:"message,omitempty"`
	Error   string `json:"error,omitempty"`
}

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: argocd-health health.lua OBJECT.yaml...")
		os.Exit(2)
	}
	script, err := os.ReadFile(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	lines := json.NewEncoder(os.Stdout)
	for _, path := range os.Args[2:] {
		found, err := health(string(script), path)
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

func health(script, path string) (verdict, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return verdict{}, err
	}
	var object map[string]any
	if err := yaml.Unmarshal(text, &object); err != nil {
		return verdict{}, err
	}
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	open(state)
	within, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	state.SetContext(within)
	state.SetGlobal("obj", value(state, object))
	if err := state.DoString(script); err != nil {
		return verdict{}, err
	}
	answer, ok := state.Get(-1).(*lua.LTable)
	if !ok {
		return verdict{}, fmt.Errorf("a table was to be returned, not %s", state.Get(-1).Type())
	}
	found := verdict{}
	for name, field := range map[string]*string{"status": &found.Status, "message": &found.Message} {
		said, ok := answer.RawGetString(name).(lua.LString)
		if !ok {
			return verdict{}, fmt.Errorf("%s is no text", name)
		}
		*field = string(said)
	}
	return found, nil
}

// open makes the libraries known that Argo CD opens. Of os it adds the time and the date, which no health depends on.
func open(state *lua.LState) {
	for _, library := range []struct {
		name string
		open lua.LGFunction
	}{
		{lua.LoadLibName, lua.OpenPackage},
		{lua.BaseLibName, lua.OpenBase},
		{lua.TabLibName, lua.OpenTable},
	} {
		state.Push(state.NewFunction(library.open))
		state.Push(lua.LString(library.name))
		state.Call(1, 0)
	}
}

// value is an object of JSON as Lua sees it: null is nil, so that its key is not there.
func value(state *lua.LState, of any) lua.LValue {
	switch of := of.(type) {
	case bool:
		return lua.LBool(of)
	case float64:
		return lua.LNumber(of)
	case string:
		return lua.LString(of)
	case []any:
		list := state.NewTable()
		for _, item := range of {
			list.Append(value(state, item))
		}
		return list
	case map[string]any:
		table := state.NewTable()
		for key, item := range of {
			table.RawSetString(key, value(state, item))
		}
		return table
	}
	return lua.LNil
}
