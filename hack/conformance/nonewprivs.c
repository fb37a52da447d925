/* Installed with the set-uid bit: tells which user the kernel let it become. */
#include <stdio.h>
#include <unistd.h>

int main(void)
{
    return printf("Effective uid: %u\n", (unsigned)geteuid()) < 0;
}
