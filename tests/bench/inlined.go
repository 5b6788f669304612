// A program with inlined calls, as Go's compiler makes them.
package main

import (
	"fmt"
	"sort"
	"strings"
)

type pair struct {
	word  string
	count int
}

func double(n int) int { return n * 2 }

func weight(p pair) int { return double(p.count) + len(p.word) }

func main() {
	counts := map[string]int{}
	for _, word := range strings.Fields(strings.Repeat("a bb ccc a dddd bb ", 50)) {
		counts[word]++
	}
	var pairs []pair
	for word, count := range counts {
		pairs = append(pairs, pair{word, count})
	}
	sort.Slice(pairs, func(i, j int) bool { return weight(pairs[i]) < weight(pairs[j]) })
	fmt.Println(pairs)
}
