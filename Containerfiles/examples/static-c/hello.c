#include <stdio.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    printf("hello, %s, from pid %d\n", argc > 1 ? argv[1] : "nobody", (int)getpid());
    return 0;
}
