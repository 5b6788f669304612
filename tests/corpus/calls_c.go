// Go that calls C, which runs on another stack, and C that calls Go.
//
// chain in_c: writes_null calls_null runtime.asmcgocall* runtime.cgocall main._Cfunc_calls_null* main.inC main.outer main.main runtime.main runtime.goexit* <thread>
// chain in_goroutine: writes_null calls_null runtime.asmcgocall* runtime.cgocall main._Cfunc_calls_null* main.inC main.inGoroutine.func1 runtime.goexit* <thread>
// chain called_back: main.nullWrite main.calledBack _cgoexp_* runtime.cgocallbackg1 runtime.cgocallbackg runtime.cgocallbackg.abi0|runtime.cgocallback* [runtime.cgocallback*] crosscall2 calledBack calls_go runtime.asmcgocall* runtime.cgocall main._Cfunc_calls_go* main.viaC main.outer main.main runtime.main runtime.goexit* <thread>
package main

/*
static volatile long zero;
static volatile int sink;
extern void calledBack(void);
__attribute__((noinline, unused)) static void writes_null(void)
{
	*(volatile int *)zero = 1;
	sink++;
}
__attribute__((noinline, unused)) static void calls_null(void)
{
	writes_null();
	sink++;
}
__attribute__((noinline, unused)) static void calls_go(void)
{
	calledBack();
	sink++;
}
*/
import "C"
import "os"

var sink int
var nowhere *int

//go:noinline
func nullWrite() {
	*nowhere = 1
	sink++
}

//go:noinline
//export calledBack
func calledBack() {
	nullWrite()
	sink++
}

//go:noinline
func inC() {
	C.calls_null()
	sink++
}

//go:noinline
func viaC() {
	C.calls_go()
	sink++
}

//go:noinline
func inGoroutine() {
	done := make(chan int)
	go func() {
		inC()
		done <- 1
	}()
	<-done
}

//go:noinline
func outer(run func()) {
	run()
	sink++
}

func main() {
	switch os.Args[1] {
	case "in_c":
		outer(inC)
	case "in_goroutine":
		outer(inGoroutine)
	case "called_back":
		outer(viaC)
	}
}
