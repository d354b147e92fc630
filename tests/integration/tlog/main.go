// Checks a log's folder with Go's own packages for transparency logs: the checkpoint's signature (sumdb/note), the root
// from the tiles, the hash of each entry, and the proof of each record (sumdb/tlog). Prints how many records hold.
package main

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// tiles reads tiles of height 8 from a folder in the layout of tlog-tiles, which has no height in its paths.
type tiles string

func (t tiles) Height() int                       { return 8 }
func (t tiles) SaveTiles([]tlog.Tile, [][]byte) {}

func (t tiles) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	read := make([][]byte, len(wanted))
	for i, tile := range wanted {
		content, err := os.ReadFile(filepath.Join(string(t), strings.Replace(tile.Path(), "tile/8/", "tile/", 1)))
		if err != nil {
			return nil, err
		}
		read[i] = content
	}
	return read, nil
}

func entries(folder string, size int64) [][]byte {
	var all [][]byte
	for bundle := int64(0); int64(len(all)) < size; bundle++ {
		tile := tlog.Tile{H: 8, L: 0, N: bundle, W: int(min(256, size-bundle*256))}
		path := strings.Replace(tile.Path(), "tile/8/0/", "tile/entries/", 1)
		content, err := os.ReadFile(filepath.Join(folder, path))
		check(err)
		for len(content) > 0 {
			length := binary.BigEndian.Uint16(content)
			all = append(all, content[2:2+length])
			content = content[2+length:]
		}
	}
	return all
}

func main() {
	folder, key := os.Args[1], os.Args[2]
	verifier, err := note.NewVerifier(key)
	check(err)
	signed, err := os.ReadFile(filepath.Join(folder, "checkpoint"))
	check(err)
	opened, err := note.Open(signed, note.VerifierList(verifier))
	check(err)
	lines := strings.Split(opened.Text, "\n")
	size, err := strconv.ParseInt(lines[1], 10, 64)
	check(err)
	root, err := base64.StdEncoding.DecodeString(lines[2])
	check(err)
	tree := tlog.Tree{N: size, Hash: tlog.Hash(root)}
	hashes := tlog.TileHashReader(tree, tiles(folder))
	computed, err := tlog.TreeHash(size, hashes)
	check(err)
	if computed != tree.Hash {
		check(fmt.Errorf("the root is %v, not %v", computed, tree.Hash))
	}
	all := entries(folder, size)
	for i, entry := range all {
		proof, err := tlog.ProveRecord(size, int64(i), hashes)
		check(err)
		check(tlog.CheckRecord(proof, size, tree.Hash, int64(i), tlog.RecordHash(entry)))
	}
	fmt.Println(len(all))
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
