// Crashes of Go: its runtime handles the signal and ends by itself.
//
// chain null_write: main.nullWrite main.inner main.middle main.outer main.main runtime.main <thread>
// chain in_method: main.(*shape).area main.inMethod main.inner main.middle main.outer main.main runtime.main <thread>
// chain in_goroutine: main.nullWrite main.inGoroutine.func1 <thread>
// chain in_closure: main.nullWrite main.inClosure.func1 main.run main.inClosure main.inner main.middle main.outer main.main runtime.main <thread>
package main

import "os"

var sink int
var nowhere *int

type shape struct{ width [5000]int }

//go:noinline
func (s *shape) area() int { return s.width[4000] }

//go:noinline
func nullWrite() {
	*nowhere = 1
	sink++
}

var missing *shape

//go:noinline
func inMethod() {
	sink += missing.area()
	sink++
}

//go:noinline
func inGoroutine() {
	done := make(chan int)
	go func() {
		nullWrite()
		done <- 1
	}()
	<-done
}

//go:noinline
func inClosure() {
	number := sink
	call := func() {
		nullWrite()
		sink += number
	}
	run(call)
	sink++
}

//go:noinline
func run(call func()) {
	call()
	sink++
}

//go:noinline
func inner(run func()) {
	run()
	sink++
}

//go:noinline
func middle(run func()) {
	inner(run)
	sink++
}

//go:noinline
func outer(run func()) {
	middle(run)
	sink++
}

func main() {
	scenarios := map[string]func(){
		"null_write":   nullWrite,
		"in_method":    inMethod,
		"in_goroutine": inGoroutine,
		"in_closure":   inClosure,
	}
	if len(os.Args) > 1 {
		if run := scenarios[os.Args[1]]; run != nil {
			outer(run)
		}
	}
	os.Exit(2)
}
