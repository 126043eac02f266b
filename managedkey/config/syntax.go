package config

import (
	"bytes"
	"encoding/json"
	"math/big"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	hcljson "github.com/hashicorp/hcl/v2/json"
	"github.com/zclconf/go-cty/cty"
)

// Limits of what is read.
const (
	MaxFile   = 32 << 20 // bytes of a file
	MaxTotal  = 64 << 20 // bytes of the files of a directory
	MaxFiles  = 1000     // files of a directory
	MaxBlocks = 100_000  // blocks of all files together
	MaxDepth  = 16       // brackets inside brackets
)

// argument is "name = value". Values are string, bool, json.Number, []any and map[string]any.
type argument struct {
	name  string
	pos   Pos
	value any
}

// block is a block of either syntax.
type block struct {
	kind   string
	labels []string
	pos    Pos
	args   map[string]*argument
	blocks []*block
}

// spec is which blocks may stand in one, and the labels that it has, for the reader and for errors.
type spec struct {
	labels []string
	blocks map[string]*spec
}

// reader turns files into blocks.
type reader struct {
	*problems
	blocks int
}

// read returns the blocks of a file.
func (r *reader) read(name string, data []byte) []*block {
	if len(data) > MaxFile {
		r.add(Pos{File: name}, "the file has %d bytes; it takes %d", len(data), MaxFile)
		return nil
	}
	before := len(r.errors)
	var file *hcl.File
	var diags hcl.Diagnostics
	if strings.HasSuffix(name, ".json") {
		if r.jsonDepth(name, data); len(r.errors) > before {
			return nil
		}
		file, diags = hcljson.Parse(data, name)
	} else {
		if r.tokens(name, data); len(r.errors) > before {
			return nil
		}
		file, diags = hclsyntax.ParseConfig(data, name, hcl.InitialPos)
	}
	r.diagnose(diags)
	if len(r.errors) > before {
		return nil
	}
	root := &block{args: make(map[string]*argument)}
	r.body(root, file.Body, fileSpec)
	for _, a := range root.args {
		r.add(a.pos, "argument %q stands outside of a block, or the block is of no known kind; %s", a.name, takes(a.name, blockNames(fileSpec)))
	}
	return root.blocks
}

// diagnose takes over what a parser says. Details that quote the file are left out: what is quoted may be a secret.
func (r *reader) diagnose(diags hcl.Diagnostics) {
	for _, d := range diags {
		if d.Severity != hcl.DiagError {
			continue
		}
		text := strings.ToLower(d.Summary[:1]) + d.Summary[1:]
		if !strings.Contains(d.Detail, `"`) {
			text += ": " + strings.TrimSuffix(d.Detail, ".")
		}
		pos := Pos{}
		if d.Subject != nil {
			pos = position(*d.Subject)
		}
		r.add(pos, "%s", text)
	}
}

func position(at hcl.Range) Pos { return Pos{at.Filename, at.Start.Line, at.Start.Column} }

// tokens refuses what the language has and a configuration of ours doesn't need, before the parser sees it: expressions, whose
// parser calls itself, and templates.
func (r *reader) tokens(name string, data []byte) {
	all, diags := hclsyntax.LexConfig(data, name, hcl.InitialPos)
	r.diagnose(diags)
	depth := 0
	before := hclsyntax.TokenNewline
	for _, t := range all {
		pos := position(t.Range)
		switch t.Type {
		case hclsyntax.TokenOBrace, hclsyntax.TokenOBrack:
			if depth++; depth > MaxDepth {
				r.add(pos, "more than %d brackets inside brackets", MaxDepth)
				return
			}
		case hclsyntax.TokenCBrace, hclsyntax.TokenCBrack:
			depth--
		case hclsyntax.TokenIdent:
			if before == hclsyntax.TokenOBrack {
				r.add(pos, "a list takes strings, numbers, lists and objects")
				return
			}
		case hclsyntax.TokenTemplateInterp, hclsyntax.TokenTemplateControl:
			r.add(pos, "strings are taken as they are; write $${ or %%%%{ for the text ${ or %%{, and \"env:NAME\" or \"file:/path\" for what stands elsewhere")
			return
		case hclsyntax.TokenOQuote, hclsyntax.TokenCQuote, hclsyntax.TokenQuotedLit, hclsyntax.TokenStringLit, hclsyntax.TokenOHeredoc,
			hclsyntax.TokenCHeredoc, hclsyntax.TokenNumberLit, hclsyntax.TokenEqual, hclsyntax.TokenComma, hclsyntax.TokenColon,
			hclsyntax.TokenNewline, hclsyntax.TokenComment, hclsyntax.TokenEOF:
		default:
			r.add(pos, "unexpected character; a value is a string in double quotes, a number, true, false, a list or an object")
			return
		}
		if t.Type != hclsyntax.TokenNewline && t.Type != hclsyntax.TokenComment {
			before = t.Type
		}
	}
}

// jsonDepth refuses what is nested too deep for a parser that calls itself.
func (r *reader) jsonDepth(name string, data []byte) {
	depth, quoted := 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			if depth++; depth > MaxDepth {
				line := 1 + bytes.Count(data[:i], []byte("\n"))
				r.add(Pos{name, line, i - bytes.LastIndexByte(data[:i], '\n')}, "more than %d brackets inside brackets", MaxDepth)
				return
			}
		case c == '}' || c == ']':
			depth--
		}
	}
}

// body reads what is in a block, whose spec is s.
func (r *reader) body(into *block, body hcl.Body, s *spec) {
	var attributes hcl.Attributes
	var blocks hcl.Blocks
	if native, ok := body.(*hclsyntax.Body); ok {
		attributes = make(hcl.Attributes, len(native.Attributes))
		for name, a := range native.Attributes {
			attributes[name] = a.AsHCLAttribute()
		}
		for _, b := range native.Blocks {
			blocks = append(blocks, b.AsHCLBlock())
		}
	} else {
		schema := new(hcl.BodySchema)
		for name, inner := range s.blocks {
			schema.Blocks = append(schema.Blocks, hcl.BlockHeaderSchema{Type: name, LabelNames: inner.labels})
		}
		content, remain, diags := body.PartialContent(schema)
		r.diagnose(diags)
		blocks = content.Blocks
		if attributes, diags = remain.JustAttributes(); diags.HasErrors() {
			r.diagnose(diags)
		}
	}
	for name, a := range attributes {
		if value, ok := r.value(a); ok {
			into.args[name] = &argument{name, position(a.NameRange), value}
		}
	}
	for _, b := range blocks {
		pos := position(b.DefRange)
		inner, known := s.blocks[b.Type]
		switch {
		case !known:
			r.add(pos, "unknown block %.60q; %s", b.Type, takes(b.Type, blockNames(s)))
			continue
		case len(b.Labels) != len(inner.labels):
			r.add(pos, "block %s has %d labels; it takes %d: %s", b.Type, len(b.Labels), len(inner.labels), header(b.Type, inner))
			continue
		}
		if r.blocks++; r.blocks > MaxBlocks {
			if r.blocks == MaxBlocks+1 {
				r.add(pos, "more than %d blocks", MaxBlocks)
			}
			return
		}
		next := &block{kind: b.Type, labels: b.Labels, pos: pos, args: make(map[string]*argument)}
		r.body(next, b.Body, inner)
		into.blocks = append(into.blocks, next)
	}
}

func header(kind string, s *spec) string {
	for _, label := range s.labels {
		kind += " " + strings.ToUpper(label)
	}
	return kind
}

func blockNames(s *spec) (names []string) {
	for name := range s.blocks {
		names = append(names, name)
	}
	return names
}

// value returns the value of an argument. There is no context to evaluate in: names and functions mean nothing.
func (r *reader) value(a *hcl.Attribute) (any, bool) {
	v, diags := a.Expr.Value(nil)
	if diags.HasErrors() {
		for _, d := range diags {
			if d.Subject != nil {
				r.add(position(*d.Subject), "argument %q: a value is a string in double quotes, a number, true, false, a list or an object", a.Name)
				return nil, false
			}
		}
	}
	out, ok := plain(v)
	if !ok {
		r.add(position(a.NameRange), "argument %q is null, or of no kind or size that is taken", a.Name)
	}
	return out, ok
}

// plain returns a value without its library.
func plain(v cty.Value) (any, bool) {
	if v.IsNull() || !v.IsKnown() || v.IsMarked() {
		return nil, false
	}
	switch t := v.Type(); {
	case t == cty.String:
		return v.AsString(), true
	case t == cty.Bool:
		return v.True(), true
	case t == cty.Number:
		return number(v.AsBigFloat())
	case t.IsTupleType() || t.IsListType() || t.IsSetType():
		out := []any{}
		for _, e := range v.AsValueSlice() {
			p, ok := plain(e)
			if !ok {
				return nil, false
			}
			out = append(out, p)
		}
		return out, true
	case t.IsObjectType() || t.IsMapType():
		out := make(map[string]any)
		for name, e := range v.AsValueMap() {
			p, ok := plain(e)
			if !ok {
				return nil, false
			}
			out[name] = p
		}
		return out, true
	}
	return nil, false
}

// number returns a number in decimal. One that is out of all bounds would take minutes and gigabytes to write.
func number(f *big.Float) (any, bool) {
	const bits = 1024
	if exp := f.MantExp(nil); f.IsInf() || exp > bits || exp < -bits {
		return nil, false
	}
	if f.IsInt() && f.MantExp(nil) <= 64 {
		return json.Number(f.Text('f', 0)), true
	}
	return json.Number(f.Text('g', 20)), true
}
