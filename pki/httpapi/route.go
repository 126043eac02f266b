package httpapi

import (
	"net/http"
	"strings"
	"sync"
)

// action does what a method of a path is for. It returns the data of the answer, nil for none, a raw, or a status.
type action func(*call) (any, error)

// route is what a path can do. Its path has ":name" for one segment, which the call has as a parameter, and "*name" for the rest.
type route struct {
	path string

	get, list, post, patch, remove action

	public bool // GET and LIST are for everybody
	open   bool // so is POST
	sudo   bool // POST and DELETE take sudo
}

func (to *route) method(name string) action {
	switch name {
	case http.MethodGet, http.MethodHead:
		return to.get
	case "LIST":
		return to.list
	case http.MethodPost:
		return to.post
	case http.MethodPatch:
		return to.patch
	case http.MethodDelete:
		return to.remove
	}
	return nil
}

// allowed are the methods that the path has, for the header Allow.
func (to *route) allowed() string {
	var names []string
	for _, name := range []string{http.MethodGet, "LIST", http.MethodPost, http.MethodPatch, http.MethodDelete} {
		if to.method(name) != nil {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}

// tree finds routes by segments. What is literal comes before what is not.
type tree struct {
	next  map[string]*tree
	param *tree
	name  string // of the parameter that param stands for
	rest  *route // of "*name"
	here  *route
}

// routes are all paths of a mount.
var routes = sync.OnceValue(func() *tree {
	top := new(tree)
	for _, group := range [][]route{rootRoutes, issuerRoutes, keyRoutes, roleRoutes, leafRoutes, certRoutes, crlRoutes, crlSignRoutes, responderRoutes, configRoutes, tidyRoutes} {
		for i := range group {
			top.add(&group[i])
		}
	}
	return top
})

func (t *tree) add(r *route) {
	at := t
	for segment := range strings.SplitSeq(r.path, "/") {
		switch segment[0] {
		case '*':
			at.name, at.rest = segment[1:], r
			return
		case ':':
			if at.param == nil {
				at.param, at.name = new(tree), segment[1:]
			}
			at = at.param
		default:
			if at.next == nil {
				at.next = make(map[string]*tree)
			}
			if at.next[segment] == nil {
				at.next[segment] = new(tree)
			}
			at = at.next[segment]
		}
	}
	at.here = r
}

// param is a segment of a path and what it stands for.
type param struct{ name, value string }

// find returns the route of a path, or nil. params, if not nil, gets what stands for its parameters.
func (t *tree) find(path string, params *[]param) *route {
	segment, rest, more := strings.Cut(path, "/")
	if literal := t.next[segment]; literal != nil {
		if found := literal.below(rest, more, params); found != nil {
			return found
		}
	}
	if t.param != nil {
		if found := t.param.below(rest, more, params); found != nil {
			if params != nil {
				*params = append(*params, param{t.name, segment})
			}
			return found
		}
	}
	if t.rest != nil && params != nil {
		*params = append(*params, param{t.name, path})
	}
	return t.rest
}

func (t *tree) below(rest string, more bool, params *[]param) *route {
	if more {
		return t.find(rest, params)
	}
	return t.here
}
