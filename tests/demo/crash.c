/*
 * A small program that crashes some calls deep: main reads a list of orders and
 * totals it, and the last order has no item.
 *
 * Chain: price_of, total_of, print_bill, main.
 */
#include <stdio.h>

/* Called as written: not inlined, and no copies of it for some callers. */
#ifdef __clang__
#define AS_WRITTEN __attribute__((noinline))
#else
#define AS_WRITTEN __attribute__((noipa))
#endif

struct item {
	const char *name;
	int cents;
};

struct order {
	struct item *item;
	int count;
};

AS_WRITTEN static int price_of(const struct order *order)
{
	return order->item->cents * order->count;
}

AS_WRITTEN static int total_of(const struct order *orders, int count)
{
	int total = 0;

	for (int i = 0; i < count; i++)
		total += price_of(&orders[i]);
	return total;
}

AS_WRITTEN static int print_bill(const struct order *orders, int count)
{
	return printf("%d cents\n", total_of(orders, count));
}

int main(int argc, char **argv)
{
	struct item tea = { "tea", 250 };
	struct order orders[] = { { &tea, 2 }, { argc > 1 ? &tea : 0, 1 } };

	(void)argv;
	return print_bill(orders, 2) < 0;
}
