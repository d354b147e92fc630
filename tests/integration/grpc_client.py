"""A gRPC client that calls an xds:/// target as told on standard input, and prints what answered.

One line in is one call, with the line (if any) as its cookie; one line out is `STATUS ANSWER COOKIE`.
"""

import sys

import grpc


def main(target: str) -> None:
    with grpc.insecure_channel(target) as channel:
        call = channel.unary_unary("/test.Backend/Who")
        for line in sys.stdin:
            metadata = (("cookie", line.strip()),) if line.strip() else ()
            try:
                answer, details = call.with_call(b"", metadata=metadata, timeout=20)
                cookies = dict(details.initial_metadata()).get("set-cookie", "")
                print("OK", answer.decode(), cookies.partition(";")[0], flush=True)
            except grpc.RpcError as error:
                print(error.code().name, str(error.details()).replace("\n", " "), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
