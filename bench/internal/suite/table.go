package suite

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

// Table is how cost grows with something: a row for each size that was measured.
type Table struct {
	Name    string      `json:"name"`  // of the file with its picture
	Title   string      `json:"title"` // what grows
	Columns []string    `json:"columns"`
	Rows    [][]float64 `json:"rows"` // the first column is the size, rising
	// Drawn are the columns in the picture, all of the same unit.
	Drawn []int  `json:"drawn"`
	Unit  string `json:"unit"`
	Note  string `json:"note"` // what explains the figures
}

// Print prints the table in Markdown.
func (t *Table) Print(out io.Writer) {
	fmt.Fprintf(out, "%s\n\n| %s |\n|%s\n", t.Title, strings.Join(t.Columns, " | "), strings.Repeat("---:|", len(t.Columns)))
	for _, row := range t.Rows {
		cells := make([]string, len(row))
		for i, v := range row {
			cells[i] = short(v)
		}
		fmt.Fprintf(out, "| %s |\n", strings.Join(cells, " | "))
	}
	if t.Note != "" {
		fmt.Fprintf(out, "\n%s\n", t.Note)
	}
}

// short prints three digits, and whole numbers whole.
func short(v float64) string {
	switch {
	case v == math.Trunc(v) && math.Abs(v) < 1e9:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case math.Abs(v) >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	default:
		return strconv.FormatFloat(v, 'g', 3, 64)
	}
}

// Size of a picture and of the margins for what is written at its axes, in pixels.
const (
	width, height                    = 760, 380
	leftEdge, rightEdge, top, bottom = 70, 190, 40, 50
)

// SVG draws the table. Both axes are logarithmic, so that what grows as its size does is a straight line that rises by as much as
// it goes to the right, and what does not grow is level.
func (t *Table) SVG() string {
	minX, maxX, minY, maxY := math.Inf(1), math.Inf(-1), math.Inf(1), math.Inf(-1)
	for _, row := range t.Rows {
		minX, maxX = min(minX, row[0]), max(maxX, row[0])
		for _, c := range t.Drawn {
			if v := row[c]; v > 0 {
				minY, maxY = min(minY, v), max(maxY, v)
			}
		}
	}
	// Whole decades, and at least one.
	decades := func(low, high float64) (float64, float64) {
		l, h := math.Floor(math.Log10(low)), math.Ceil(math.Log10(high))
		return l, max(h, l+1)
	}
	x0, x1 := decades(minX, maxX)
	y0, y1 := decades(minY, maxY)
	x := func(v float64) float64 { return leftEdge + (math.Log10(v)-x0)/(x1-x0)*(width-leftEdge-rightEdge) }
	y := func(v float64) float64 { return height - bottom - (math.Log10(v)-y0)/(y1-y0)*(height-top-bottom) }

	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n", width, height)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="#fff"/>`+"\n", width, height)
	text := func(x, y float64, anchor, fill, s string) {
		fmt.Fprintf(&b, `<text x="%.0f" y="%.0f" text-anchor="%s" fill="%s">%s</text>`+"\n", x, y, anchor, fill, escape.Replace(s))
	}
	line := func(x1, y1, x2, y2 float64) {
		fmt.Fprintf(&b, `<path d="M%.1f %.1fL%.1f %.1f" stroke="#ddd"/>`+"\n", x1, y1, x2, y2)
	}
	text(leftEdge, 22, "start", "#111", t.Title)
	for e := x0; e <= x1; e++ {
		v := math.Pow(10, e)
		line(x(v), top, x(v), height-bottom)
		text(x(v), height-bottom+18, "middle", "#555", round(v))
	}
	for e := y0; e <= y1; e++ {
		v := math.Pow(10, e)
		line(leftEdge, y(v), width-rightEdge, y(v))
		text(leftEdge-8, y(v)+4, "end", "#555", round(v))
	}
	text((leftEdge+width-rightEdge)/2, height-12, "middle", "#111", t.Columns[0])
	text(leftEdge-8, top-14, "end", "#111", t.Unit)
	colours := []string{"#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf"}
	for i, c := range t.Drawn {
		colour := colours[i%len(colours)]
		var points []string
		for _, row := range t.Rows {
			if v := row[c]; v > 0 {
				points = append(points, fmt.Sprintf("%.1f,%.1f", x(row[0]), y(v)))
				fmt.Fprintf(&b, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>`+"\n", x(row[0]), y(v), colour)
			}
		}
		fmt.Fprintf(&b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="1.5"/>`+"\n", strings.Join(points, " "), colour)
		text(width-rightEdge+12, top+14+float64(i)*18, "start", colour, t.Columns[c])
	}
	b.WriteString("</svg>\n")
	return b.String()
}

var escape = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")

// round prints a power of ten.
func round(v float64) string {
	switch {
	case v >= 1e6:
		return strconv.FormatFloat(v/1e6, 'f', -1, 64) + "M"
	case v >= 1e3:
		return strconv.FormatFloat(v/1e3, 'f', -1, 64) + "k"
	default:
		return strconv.FormatFloat(v, 'g', 3, 64)
	}
}
