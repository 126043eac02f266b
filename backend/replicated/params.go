package replicated

import (
	"encoding/json"
	"fmt"

	"github.com/managedkeys/managedkeys/backend"
)

// Type is the backend type, as [Backend.Type] has it.
const Type = "replicated"

// Params say where a key is. They must not be modified once they were handed over.
type Params struct {
	// Places are at least two, in order of preference.
	Places []At `json:"places"`
}

// At is the key at one place.
type At struct {
	Place  string         `json:"place"`  // name of a Place of the Backend
	Params backend.Params `json:"params"` // of that Place's backend
}

// BackendType implements [backend.Params].
func (Params) BackendType() string { return Type }

// Validate implements [backend.Params]. It validates the parameters of each place too.
func (p Params) Validate() error {
	if len(p.Places) < 2 {
		return fmt.Errorf("replicated: places: got %d; it takes at least 2: %w", len(p.Places), backend.ErrInvalidParams)
	}
	seen := make(map[string]bool)
	for i, at := range p.Places {
		switch {
		case at.Place == "":
			return fmt.Errorf("replicated: places[%d].place is missing; it takes the name of a place: %w", i, backend.ErrInvalidParams)
		case seen[at.Place]:
			return fmt.Errorf("replicated: places[%d].place: %.40q is listed twice: %w", i, at.Place, backend.ErrInvalidParams)
		case at.Params == nil:
			return fmt.Errorf("replicated: places[%d].params is missing; it takes those of the key at %.40q: %w", i, at.Place, backend.ErrInvalidParams)
		}
		seen[at.Place] = true
		if err := at.Params.Validate(); err != nil {
			return fmt.Errorf("replicated: places[%d].params: %w", i, err)
		}
	}
	return nil
}

// EncodeParams implements [backend.ParamsEncoder].
func (p Params) EncodeParams() ([]byte, error) {
	type at struct {
		Place  string          `json:"place"`
		Params json.RawMessage `json:"params"`
	}
	out := make([]at, len(p.Places))
	for i, from := range p.Places {
		params, err := backend.EncodeParams(from.Params)
		if err != nil {
			return nil, err
		}
		out[i] = at{from.Place, params}
	}
	return json.Marshal(map[string]any{"places": out})
}

// rawParams are Params whose places' parameters wait for the place's decoder.
type rawParams struct {
	Places []json.RawMessage `json:"places"`
}

func (rawParams) BackendType() string { return Type }
func (rawParams) Validate() error     { return nil }

// rawAt is At likewise.
type rawAt struct {
	Place  string          `json:"place"`
	Params json.RawMessage `json:"params"`
}

func (rawAt) BackendType() string { return Type }
func (rawAt) Validate() error     { return nil }

// DecodeParams implements [backend.ParamsDecoder]. The places' backends must implement it too.
func (b *Backend) DecodeParams(data []byte) (backend.Params, error) {
	raw, err := backend.DecodeParams[rawParams](data)
	if err != nil {
		return nil, err
	}
	var out Params
	for i, text := range raw.Places {
		at, err := backend.DecodeParams[rawAt](text)
		if err != nil {
			return nil, fmt.Errorf("replicated: places[%d]: %w", i, err)
		}
		place, err := b.place(at.Place)
		if err != nil {
			return nil, fmt.Errorf("replicated: places[%d]: %w", i, err)
		}
		decoder, ok := place.Backend.(backend.ParamsDecoder)
		if !ok {
			return nil, fmt.Errorf("replicated: places[%d]: backend %q reads no parameters: %w", i, place.Backend.Type(), backend.ErrUnsupported)
		}
		params, err := decoder.DecodeParams(at.Params)
		if err != nil {
			return nil, fmt.Errorf("replicated: places[%d].params: %w", i, err)
		}
		out.Places = append(out.Places, At{at.Place, params})
	}
	return out, out.Validate()
}
