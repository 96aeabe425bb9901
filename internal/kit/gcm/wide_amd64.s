#include "textflag.h"

// The bytes of a block the other way round: hash and counter are big-endian, the instructions little-endian.
DATA reverse<>+0(SB)/8, $0x08090a0b0c0d0e0f
DATA reverse<>+8(SB)/8, $0x0001020304050607
GLOBL reverse<>(SB), RODATA|NOPTR, $16

// The polynomial of the hash, x^128 + x^127 + x^126 + x^121 + 1, its bits the other way round.
DATA polynomial<>+0(SB)/8, $0x0000000000000001
DATA polynomial<>+8(SB)/8, $0xc200000000000000
GLOBL polynomial<>(SB), RODATA|NOPTR, $16

// What is added to the counter for each of four blocks, and then to all of them.
DATA steps<>+0(SB)/8, $0
DATA steps<>+8(SB)/8, $0
DATA steps<>+16(SB)/8, $1
DATA steps<>+24(SB)/8, $0
DATA steps<>+32(SB)/8, $2
DATA steps<>+40(SB)/8, $0
DATA steps<>+48(SB)/8, $3
DATA steps<>+56(SB)/8, $0
GLOBL steps<>(SB), RODATA|NOPTR, $64
DATA four<>+0(SB)/8, $4
DATA four<>+8(SB)/8, $0
GLOBL four<>(SB), RODATA|NOPTR, $16

// Registers: Z0-Z3 the keystream; Z4-Z7 what is sealed, bytes reversed; Z8-Z10 the low, middle and high part of its
// product; Z11 scratch; Z12 four counters; Z13 four; Z14 the polynomial; X15 the hash; Z16-Z30 the round keys; Z31
// reverse.

#define COUNTERS(stream) \
	VPSHUFB Z31, Z12, stream; \
	VPADDD  Z13, Z12, Z12;    \
	VPXORQ  Z16, stream, stream

#define ROUND(key) \
	VAESENC key, Z0, Z0; \
	VAESENC key, Z1, Z1; \
	VAESENC key, Z2, Z2; \
	VAESENC key, Z3, Z3

// CRYPT writes 64 bytes and keeps what is sealed of them for the hash.
#define CRYPT(at, stream, sealed) \
	VMOVDQU64   at(SI), sealed;             \
	VAESENCLAST Z30, stream, stream;        \
	VPXORQ      sealed, stream, stream;     \
	VMOVDQU64   stream, at(DI);             \
	VPBLENDMQ   sealed, stream, K1, sealed; \
	VPSHUFB     Z31, sealed, sealed

// FIRST and NEXT multiply four blocks by their powers.
#define FIRST(at, sealed) \
	VPCLMULQDQ $0x00, at(AX), sealed, Z8;     \
	VPCLMULQDQ $0x01, at(AX), sealed, Z9;     \
	VPCLMULQDQ $0x11, at(AX), sealed, Z10;    \
	VPCLMULQDQ $0x10, at(AX), sealed, sealed; \
	VPXORQ     sealed, Z9, Z9

#define NEXT(at, sealed) \
	VPCLMULQDQ $0x00, at(AX), sealed, Z11;    \
	VPXORQ     Z11, Z8, Z8;                   \
	VPCLMULQDQ $0x11, at(AX), sealed, Z11;    \
	VPXORQ     Z11, Z10, Z10;                 \
	VPCLMULQDQ $0x01, at(AX), sealed, Z11;    \
	VPCLMULQDQ $0x10, at(AX), sealed, sealed; \
	VPTERNLOGQ $0x96, Z11, sealed, Z9

// FOLD takes 64 bits of what is beyond x^128 away, by the polynomial.
#define FOLD(from, to) \
	VPCLMULQDQ $0x01, from, Z14, Z11; \
	VPSHUFD    $0x4e, from, from;     \
	VPTERNLOGQ $0x96, Z11, from, to

// SUM adds the four parts of the product.
#define SUM \
	VEXTRACTI64X4 $1, Z10, Y11;  \
	VPXOR         Y11, Y10, Y10; \
	VEXTRACTI128  $1, Y10, X11;  \
	VPXOR         X11, X10, X10

// func groups(w *wide, r *run, dst, src []byte, opens bool)
TEXT ·groups(SB), NOSPLIT, $0-65
	MOVQ    w+0(FP), AX
	MOVQ    r+8(FP), BX
	MOVQ    dst_base+16(FP), DI
	MOVQ    src_base+40(FP), SI
	MOVQ    src_len+48(FP), CX
	MOVBQZX opens+64(FP), DX
	SHRQ    $8, CX
	JZ      none
	NEGQ    DX
	KMOVW   DX, K1 // all if src is what is sealed, else none

	VBROADCASTI32X4 0(AX), Z16
	VBROADCASTI32X4 16(AX), Z17
	VBROADCASTI32X4 32(AX), Z18
	VBROADCASTI32X4 48(AX), Z19
	VBROADCASTI32X4 64(AX), Z20
	VBROADCASTI32X4 80(AX), Z21
	VBROADCASTI32X4 96(AX), Z22
	VBROADCASTI32X4 112(AX), Z23
	VBROADCASTI32X4 128(AX), Z24
	VBROADCASTI32X4 144(AX), Z25
	VBROADCASTI32X4 160(AX), Z26
	VBROADCASTI32X4 176(AX), Z27
	VBROADCASTI32X4 192(AX), Z28
	VBROADCASTI32X4 208(AX), Z29
	VBROADCASTI32X4 224(AX), Z30
	VBROADCASTI32X4 reverse<>(SB), Z31
	VBROADCASTI32X4 polynomial<>(SB), Z14
	VBROADCASTI32X4 four<>(SB), Z13
	VBROADCASTI32X4 0(BX), Z12
	VPSHUFB         Z31, Z12, Z12
	VPADDD          steps<>(SB), Z12, Z12
	VMOVDQU         16(BX), X15
	VPSHUFB         X31, X15, X15
	VPXORQ          Z4, Z4, Z4
	VPXORQ          Z5, Z5, Z5
	VPXORQ          Z6, Z6, Z6
	VPXORQ          Z7, Z7, Z7

	// Each turn encrypts a group and, meanwhile, multiplies the one before.
group:
	COUNTERS(Z0)
	COUNTERS(Z1)
	COUNTERS(Z2)
	COUNTERS(Z3)
	ROUND(Z17)
	FIRST(240, Z4)
	ROUND(Z18)
	ROUND(Z19)
	NEXT(304, Z5)
	ROUND(Z20)
	ROUND(Z21)
	NEXT(368, Z6)
	ROUND(Z22)
	ROUND(Z23)
	NEXT(432, Z7)
	ROUND(Z24)
	ROUND(Z25)
	FOLD(Z8, Z9)
	ROUND(Z26)
	FOLD(Z9, Z10)
	ROUND(Z27)
	ROUND(Z28)
	SUM
	ROUND(Z29)
	CRYPT(0, Z0, Z4)
	CRYPT(64, Z1, Z5)
	CRYPT(128, Z2, Z6)
	CRYPT(192, Z3, Z7)
	VPTERNLOGQ $0x96, Z10, Z15, Z4
	VPXOR      X15, X15, X15

	ADDQ $256, SI
	ADDQ $256, DI
	DECQ CX
	JNZ  group

	FIRST(240, Z4)
	NEXT(304, Z5)
	NEXT(368, Z6)
	NEXT(432, Z7)
	FOLD(Z8, Z9)
	FOLD(Z9, Z10)
	SUM
	VPSHUFB X31, X10, X15
	VMOVDQU X15, 16(BX)
	VZEROUPPER

none:
	RET

// func subWord(w uint32) uint32
TEXT ·subWord(SB), NOSPLIT, $0-12
	MOVL        w+0(FP), AX
	VMOVD       AX, X0
	VPSHUFD     $0, X0, X0 // with four columns alike, ShiftRows changes nothing
	VPXOR       X1, X1, X1
	VAESENCLAST X1, X0, X0
	VMOVD       X0, AX
	MOVL        AX, ret+8(FP)
	RET
