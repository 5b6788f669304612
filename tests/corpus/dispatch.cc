// Calls that a C++ compiler puts something between, and crashes while the stack is
// being unwound or handed on.
//
// chain by_thunk: writes Right::act|Both::act by_thunk inner middle outer main <start>
// chain in_thunk: *thunk*|Both::act in_thunk inner middle outer main <start>
// chain covariant: writes Both::twin covariant* covariant inner middle outer main <start>
// chain terminates: writes at_terminate ... no_throw terminates inner middle outer main <start>
// chain rethrows: writes rethrows inner middle outer main <start>
// chain through_sort: writes compare ... through_sort inner middle outer main <start>
// chain cleans_up: writes Guard::~Guard guarded ... cleans_up inner middle outer main <start>
// chain thrown_through_c: writes thrown_through_c inner middle outer main <start>
// chain coroutine: writes step ... coroutine inner middle outer main <start>
// chain asynchronous: writes task ... <thread>
// chain thread_local_end: writes Local::~Local ... <thread>
// chain casts: ... casts inner middle outer main <start>
#include "chain.h"
#include <algorithm>
#include <coroutine>
#include <cstdlib>
#include <exception>
#include <future>
#include <stdexcept>
#include <thread>
#include <vector>

CALLED void writes()
{
	*(volatile int *)hide(0) = 1;
	sink = sink + 1;
}

struct Left {
	long left = 1;
	virtual ~Left() {}
	virtual int other() { return sink; }
};

struct Right {
	long right = 2;
	virtual ~Right() {}
	virtual int act() = 0;
	virtual Right *twin() = 0;
};

struct Both : virtual Left, virtual Right {
	CALLED int act() override
	{
		writes();
		return sink;
	}
	CALLED Both *twin() override
	{
		writes();
		return this;
	}
};

CALLED Right *both()
{
	static Both object;
	return sink == -1 ? nullptr : &object;
}

// Through a piece of code that corrects `this` and jumps on.
CALLED void by_thunk()
{
	sink = both()->act() + 1;
}

// That piece reads the table of an object that is none.
CALLED void in_thunk()
{
	void **table = *(void ***)both();
	int (*act)(void *) = (int (*)(void *))table[2];
	sink = act((void *)hide(0x10)) + 1;
}

CALLED void covariant()
{
	sink = both()->twin() != nullptr;
}

CALLED void at_terminate()
{
	writes();
	sink = sink + 1;
}

CALLED void no_throw() noexcept
{
	if (hide(1))
		throw std::runtime_error("not to be caught");
	sink = sink + 1;
}

CALLED void terminates()
{
	std::set_terminate(at_terminate);
	no_throw();
	sink = sink + 1;
}

CALLED void rethrows()
{
	try {
		try {
			throw 1;
		} catch (int) {
			sink = sink + 1;
			throw;
		}
	} catch (int) {
		writes();
	}
	sink = sink + 1;
}

CALLED bool compare(int a, int b)
{
	writes();
	return a < b;
}

CALLED void through_sort()
{
	std::vector<int> numbers(64);
	for (int i = 0; i < 64; i++)
		numbers[i] = (i * 37) & 63;
	std::stable_sort(numbers.begin(), numbers.end(), compare);
	sink = numbers[0];
}

struct Guard {
	CALLED ~Guard()
	{
		writes();
		sink = sink + 1;
	}
};

CALLED void raises()
{
	throw std::runtime_error("on its way");
}

CALLED void guarded()
{
	Guard guard;
	raises();
	sink = sink + 1;
}

CALLED void cleans_up()
{
	try {
		guarded();
	} catch (const std::exception &) {
		sink = sink + 1;
	}
}

CALLED int throwing(const void *, const void *)
{
	if (hide(1))
		throw 1;
	return 0;
}

CALLED void thrown_through_c()
{
	int numbers[8] = {};
	try {
		qsort(numbers, 8, sizeof(int), throwing);
	} catch (int) {
		writes();
	}
	sink = numbers[0];
}

struct Task {
	struct promise_type {
		Task get_return_object() { return { std::coroutine_handle<promise_type>::from_promise(*this) }; }
		std::suspend_always initial_suspend() { return {}; }
		std::suspend_always final_suspend() noexcept { return {}; }
		void return_void() {}
		void unhandled_exception() {}
	};
	std::coroutine_handle<promise_type> handle;
};

CALLED Task step(int count)
{
	sink = sink + count;
	co_await std::suspend_always{};
	writes();
	sink = sink + 1;
}

CALLED void coroutine()
{
	Task task = step(1);
	task.handle.resume();
	task.handle.resume();
	sink = sink + 1;
}

CALLED int task()
{
	writes();
	return sink;
}

CALLED void asynchronous()
{
	sink = std::async(std::launch::async, task).get();
}

struct Local {
	int value = 1;
	CALLED ~Local()
	{
		writes();
		sink = sink + 1;
	}
};

static thread_local Local local;

CALLED void touches()
{
	sink = local.value;
}

CALLED void thread_local_end()
{
	std::thread(touches).join();
	sink = sink + 1;
}

CALLED void casts()
{
	void *table[4] = { (void *)hide(0x10), (void *)hide(0x20) };
	void **object = table + 2;
	sink = dynamic_cast<Both *>((Left *)&object) != nullptr;
}

static const struct scenario scenarios[] = {
	{ "by_thunk", by_thunk },
	{ "in_thunk", in_thunk },
	{ "covariant", covariant },
	{ "terminates", terminates },
	{ "rethrows", rethrows },
	{ "through_sort", through_sort },
	{ "cleans_up", cleans_up },
	{ "thrown_through_c", thrown_through_c },
	{ "coroutine", coroutine },
	{ "asynchronous", asynchronous },
	{ "thread_local_end", thread_local_end },
	{ "casts", casts },
	{ 0, 0 },
};

int main(int argc, char **argv)
{
	return start(argc, argv, scenarios);
}
