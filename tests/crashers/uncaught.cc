// C++ that ends itself: uncaught thrown | noexcept | terminate | pure.
//
// Each dies by SIGABRT (SI_TKILL):
//   thrown    an exception that nothing catches
//   noexcept  one that reaches a function that lets none through
//   terminate std::terminate() called by name
//   pure      a pure virtual function, called while its object is made
// Chain: ... do_KIND main.
#include <cstring>
#include <exception>
#include <stdexcept>

#include "crash.h"

FRAME int do_thrown()
{
	throw std::runtime_error("nobody wants it");
}

FRAME int throws()
{
	throw 1;
}

FRAME int do_noexcept() noexcept
{
	int y = throws();
	KEEP_FRAME();
	return y;
}

FRAME int do_terminate()
{
	std::terminate();
}

struct Base {
	Base()
	{
		early();
	}
	FRAME void early()
	{
		late();
		KEEP_FRAME();
	}
	virtual int late() = 0;
};

struct Derived : Base {
	int late() override
	{
		return 1;
	}
};

FRAME int do_pure()
{
	Derived made;
	KEEP_FRAME();
	return made.late();
}

int main(int argc, char **argv)
{
	const char *kind = argc > 1 ? argv[1] : "";
	int y = 0;

	if (!std::strcmp(kind, "thrown"))
		y = do_thrown();
	if (!std::strcmp(kind, "noexcept"))
		y = do_noexcept();
	if (!std::strcmp(kind, "terminate"))
		y = do_terminate();
	if (!std::strcmp(kind, "pure"))
		y = do_pure();
	KEEP_FRAME();
	return y & 1;
}
