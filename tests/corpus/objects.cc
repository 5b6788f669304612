// Crashes of C++: virtual calls, exceptions in flight, the library's templates,
// constructors that run before main and destructors that run after it.
//
// chain null_object: null_object inner middle outer main <start>
// chain bad_table: ? bad_table inner middle outer main <start>
// chain unwinds: Guard::~Guard ... unwinds inner middle outer main <start>
// chain in_catch: writes in_catch inner middle outer main <start>
// chain sorts: less ... sorts inner middle outer main <start>
// chain lambdas: writes lambdas*operator* ... calls lambdas inner middle outer main <start>
// chain in_thread: writes threaded <thread>
// chain method_pointer: Shape::area method_pointer inner middle outer main <start>
// chain before_main: writes Early::Early ... <start>
// chain after_main: writes Late::~Late ... <start>
// cause bad_table: null_call
extern "C" {
#include "chain.h"
}
#include <algorithm>
#include <functional>
#include <stdexcept>
#include <stdlib.h>
#include <thread>
#include <vector>

CALLED void writes()
{
	*(volatile int *)hide(0) = 1;
	sink++;
}

struct Shape {
	CALLED virtual int area()
	{
		sink = *(volatile int *)hide(8);
		return sink + 1;
	}
	virtual ~Shape() {}
};

CALLED void null_object()
{
	sink += ((Shape *)hide(0))->area();
	sink++;
}

CALLED void bad_table()
{
	static void *table[4] = { (void *)0x10, (void *)0x10, (void *)0x10, (void *)0x10 };
	static void *object[1] = { table };
	sink += ((Shape *)hide((unsigned long)object))->area();
	sink++;
}

struct Guard {
	CALLED ~Guard()
	{
		*(volatile int *)hide(0) = 1;
		sink++;
	}
};

CALLED void throws()
{
	throw std::runtime_error("in flight");
}

CALLED void unwinds()
{
	Guard guard;
	throws();
	sink++;
}

CALLED void in_catch()
{
	try {
		throws();
	} catch (const std::exception &) {
		writes();
		sink++;
	}
}

CALLED bool less(int a, int b)
{
	sink = *(volatile int *)hide(0);
	return a < b;
}

CALLED void sorts()
{
	std::vector<int> numbers;
	for (int i = 0; i < 100; i++)
		numbers.push_back((i * 37) & 63);
	std::sort(numbers.begin(), numbers.end(), less);
	sink += numbers[0];
}

CALLED void calls(const std::function<void()> &function)
{
	function();
	sink++;
}

CALLED void lambdas()
{
	calls([]() CALLED {
		writes();
		sink++;
	});
	sink++;
}

CALLED void threaded(int number)
{
	writes();
	sink += number;
}

CALLED void in_thread()
{
	std::thread thread(threaded, 1);
	thread.join();
	sink++;
}

CALLED void method_pointer()
{
	int (Shape::*method)() = &Shape::area;
	static Shape shape;
	Shape *volatile object = &shape;
	sink += (object->*method)();
	sink++;
}

struct Early {
	CALLED Early()
	{
		if (const char *name = getenv("SCENARIO"))
			if (!strcmp(name, "before_main"))
				writes();
		sink++;
	}
};
static Early early;

struct Late {
	CALLED ~Late()
	{
		if (const char *name = getenv("SCENARIO"))
			if (!strcmp(name, "after_main"))
				writes();
		sink++;
	}
};
static Late late;

static void nothing() {}

static const struct scenario scenarios[] = {
	{ "null_object", null_object },
	{ "bad_table", bad_table },
	{ "unwinds", unwinds },
	{ "in_catch", in_catch },
	{ "sorts", sorts },
	{ "lambdas", lambdas },
	{ "in_thread", in_thread },
	{ "method_pointer", method_pointer },
	{ "before_main", nothing },
	{ "after_main", nothing },
	{ 0, 0 },
};

int main(int argc, char **argv)
{
	try {
		return start(argc, argv, scenarios);
	} catch (const std::exception &) {
		return 3;
	}
}
