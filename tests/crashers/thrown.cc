// C++ that ends itself, from two places each: thrown KIND1 | KIND2.
//
//   thrown    an exception that nothing catches
//   noexcept  one that reaches a function that lets none through
//   at        one that the library throws, for an index out of range
//   terminate std::terminate() called by name
//
// Each dies by SIGABRT (SI_TKILL). Chain: ... first_KIND or second_KIND, main.
#include <cstring>
#include <exception>
#include <stdexcept>
#include <string>
#include <vector>

#include "crash.h"

static volatile int never;

#define WAYS(name)                                                      \
	FRAME void name##_thrown()                                      \
	{                                                               \
		if (!never)                                             \
			throw std::runtime_error(#name);                \
		KEEP_FRAME();                                           \
	}                                                               \
	FRAME void name##_noexcept() noexcept                           \
	{                                                               \
		name##_thrown();                                        \
		KEEP_FRAME();                                           \
	}                                                               \
	FRAME void name##_at()                                          \
	{                                                               \
		std::vector<int> numbers(3);                            \
		never = numbers.at(7 + never);                          \
		KEEP_FRAME();                                           \
	}                                                               \
	FRAME void name##_terminate()                                   \
	{                                                               \
		if (!never)                                             \
			std::terminate();                               \
		KEEP_FRAME();                                           \
	}

WAYS(first)
WAYS(second)

int main(int argc, char **argv)
{
	const char *kind = argc > 1 ? argv[1] : "";

#define WAY(way)                          \
	if (!std::strcmp(kind, #way "1")) \
		first_##way();            \
	if (!std::strcmp(kind, #way "2")) \
		second_##way();
	WAY(thrown)
	WAY(noexcept)
	WAY(at)
	WAY(terminate)
	KEEP_FRAME();
	return 0;
}
