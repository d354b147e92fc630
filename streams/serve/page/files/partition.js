// The partition of a Service: crc32("namespace/service") modulo their number (README, "From any language").

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let remainder = byte;
  for (let bit = 0; bit < 8; bit++) remainder = remainder & 1 ? (remainder >>> 1) ^ 0xedb88320 : remainder >>> 1;
  return remainder;
});

/** The Service's partition. */
export function partitionOf(namespace, name, partitions) {
  let remainder = 0xffffffff;
  for (const byte of new TextEncoder().encode(`${namespace}/${name}`)) remainder = TABLE[(remainder ^ byte) & 255] ^ (remainder >>> 8);
  return ((remainder ^ 0xffffffff) >>> 0) % partitions;
}
