/* Reads through a null pointer in a callback of qsort, with arguments, locals and a list
 * that a debugger can show.
 *
 * Dies by SIGSEGV (SEGV_MAPERR, address 0, read).
 * Chain: leaf compare, those of qsort, caller main. */
#include <stdio.h>
#include <stdlib.h>

#include "crash.h"

struct node {
	int id;
	struct node *next;
	char name[16];
};

FRAME int leaf(struct node *node, int depth)
{
	char text[32];
	int length = snprintf(text, sizeof(text), "depth-%d", depth);
	int result = node->next->next->id + text[0] + length;
	KEEP_FRAME();
	return result;
}

FRAME int compare(const void *left, const void *right)
{
	struct node last = { *(const int *)left, 0, "last" };
	struct node first = { *(const int *)right, &last, "first" };
	int result = leaf(&first, 3);
	KEEP_FRAME();
	return result;
}

FRAME void caller(int count)
{
	int numbers[8] = { 3, 2, 1, 9, 8 };
	qsort(numbers, (size_t)count + 4, sizeof(numbers[0]), compare);
	KEEP_FRAME();
}

int main(int argc, char **argv)
{
	(void)argv;
	caller(argc);
	return 0;
}
