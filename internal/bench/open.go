package main

import (
	"fmt"
	"time"

	"github.com/managedkeys/managedkeys/internal/softhsm"
)

// openLimit is how long a contender may open keys in a round; what it didn't get to is extrapolated. The rounds are fewer
// than those of other tables because each takes seconds.
const (
	openLimit  = 3 * time.Second
	openRounds = 3
)

// tokenSizes are the objects on the tokens of the table. A fifth of them are the two halves of EC key pairs.
var tokenSizes = []int{10, 1000, 10_000}

// opening are the figures of one token, in seconds, one for each round.
type opening struct {
	connect, sweep, both, keys []float64
	partial                    bool // keys was extrapolated in some round
	cold                       map[string][]float64
}

// open prints what it takes to find keys on tokens of several sizes. Every figure is of a new process.
func (w *workplace) open() error {
	names := []string{contenderC, contenderOurs, "crypto11"}
	fmt.Printf("Opening on SoftHSM2 tokens of several sizes, in ms, each in a new process; median of %d rounds, ratios within a round.\n\n", min(*rounds, openRounds))
	fmt.Printf("%-7s | %9s %9s | %5s %10s %7s %13s | %9s %9s %9s\n", "objects", "C connect", "C sweep",
		"keys", "ours", "/sweep", "/(conn+sweep)", "first: C", "ours", "crypto11")
	for _, objects := range tokenSizes {
		token, err := w.newToken(fmt.Sprintf("objects-%d", objects))
		if err != nil {
			return err
		}
		pairs := objects / 10
		if _, err := w.once(contenderC, token, "fill", pairs, objects-2*pairs); err != nil {
			return err
		}
		o := opening{cold: make(map[string][]float64)}
		for range min(*rounds, openRounds) {
			if err := o.round(w, token, objects, names); err != nil {
				return err
			}
		}
		mark := ""
		if o.partial {
			mark = "~"
		}
		ms := func(x []float64) string { return cell("%.1f", 1000*median(x)) }
		fmt.Printf("%-7d | %9s %9s | %5d %10s %7.2f %13.2f | %9s %9s %9s\n", objects, ms(o.connect), ms(o.sweep),
			pairs, mark+ms(o.keys), ratio(o.keys, o.sweep), ratio(o.keys, o.both),
			ms(o.cold[names[0]]), ms(o.cold[names[1]]), ms(o.cold[names[2]]))
	}
	fmt.Print(`
C connect: load, initialise, log in; C sweep: class, key type, id and label of every object. ours: a new backend opens
so many keys by label one after the other, connecting included; ~: extrapolated from those of the first few seconds.
first: from loading the module to the first ECDSA signature.
`)
	return nil
}

// round appends a figure of each kind.
func (o *opening) round(w *workplace, token *softhsm.Token, objects int, names []string) error {
	x, err := w.onceNumbers(3, contenderC, token, "sweep")
	if err != nil {
		return err
	}
	if int(x[2]) != objects {
		return fmt.Errorf("the token has %.0f objects; it was made with %d", x[2], objects)
	}
	o.connect, o.sweep, o.both = append(o.connect, x[0]/1e9), append(o.sweep, x[1]/1e9), append(o.both, (x[0]+x[1])/1e9)

	pairs := objects / 10
	if x, err = w.onceNumbers(2, contenderOurs, token, "keys", pairs, int64(openLimit)); err != nil {
		return err
	}
	if int(x[0]) < pairs {
		o.partial = true
	}
	o.keys = append(o.keys, x[1]/1e9*float64(pairs)/x[0])

	for _, name := range names {
		labels := pairLabels(pairs)
		if x, err = w.onceNumbers(1, name, token, "cold", labels[len(labels)/2]); err != nil {
			return err
		}
		o.cold[name] = append(o.cold[name], x[0]/1e9)
	}
	return nil
}
