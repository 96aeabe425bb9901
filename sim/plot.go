package main

import (
	"fmt"
	"math"
	"strings"
)

// line is one of a plot.
type line struct {
	name   string
	points [][2]float64
}

// axis is how values of one direction are shown.
type axis struct {
	name  string
	ticks []float64
	log   bool
}

// at is where a value is between the ends of an axis, from 0 to 1.
func (a axis) at(v float64) float64 {
	low, high := a.ticks[0], a.ticks[len(a.ticks)-1]
	if a.log {
		low, high, v = math.Log(low), math.Log(high), math.Log(max(v, low))
	}
	return min(max((v-low)/(high-low), 0), 1)
}

const (
	width, height          = 640.0, 340.0 // of the lines
	left, top              = 70.0, 40.0
	wholeWidth, wholeHeigh = 960.0, 440.0
)

// plot draws lines as SVG. Values beyond the axes lie at their ends.
func plot(title string, x, y axis, lines []line) string {
	colors := [...]string{"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %g %g" font-family="sans-serif" font-size="13">`+
		"\n<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n<text x=\"%g\" y=\"22\" font-size=\"16\">%s</text>\n",
		wholeWidth, wholeHeigh, left, title)
	for _, v := range x.ticks {
		px := left + width*x.at(v)
		fmt.Fprintf(&b, `<path d="M%.1f %g v%g" stroke="#ddd"/><text x="%.1f" y="%g" text-anchor="middle">%g</text>`+"\n",
			px, top, height, px, top+height+18, v)
	}
	for _, v := range y.ticks {
		py := top + height*(1-y.at(v))
		fmt.Fprintf(&b, `<path d="M%g %.1f h%g" stroke="#ddd"/><text x="%g" y="%.1f" text-anchor="end">%g</text>`+"\n",
			left, py, width, left-6, py+4, v)
	}
	fmt.Fprintf(&b, `<text x="%g" y="%g" text-anchor="middle">%s</text><text transform="rotate(-90)" x="%g" y="16" `+
		"text-anchor=\"middle\">%s</text>\n", left+width/2, top+height+42, x.name, -top-height/2, y.name)
	for i, l := range lines {
		color := colors[i%len(colors)]
		b.WriteString(`<polyline fill="none" stroke-width="2" stroke="` + color + `" points="`)
		for _, p := range l.points {
			fmt.Fprintf(&b, "%.1f,%.1f ", left+width*x.at(p[0]), top+height*(1-y.at(p[1])))
		}
		ly := top + 16 + 22*float64(i)
		fmt.Fprintf(&b, "\"/>\n<path d=\"M%g %g h20\" stroke-width=\"3\" stroke=\"%s\"/><text x=\"%g\" y=\"%g\">%s</text>\n",
			left+width+16, ly-4, color, left+width+42, ly, l.name)
	}
	b.WriteString("</svg>\n")
	return b.String()
}

// boundsPlot is how much of each resource is used, by the number of gateways.
func boundsPlot() string {
	var lines []line
	at := map[string]int{}
	for g := 1; g <= 100; g++ {
		for _, u := range issue14(g).bounds() {
			i, there := at[u.name]
			if !there {
				i = len(lines)
				at[u.name] = i
				lines = append(lines, line{name: u.name})
			}
			lines[i].points = append(lines[i].points, [2]float64{float64(g), u.used})
		}
	}
	return plot("5 million messages/s of 10 million devices: used of each resource, 1 is all of it",
		axis{"gateways", []float64{1, 2, 5, 10, 20, 50, 100}, true},
		axis{"used", []float64{0.01, 0.03, 0.1, 0.3, 1, 3, 10}, true}, lines)
}

// lossPlot is how many devices are served after a loss.
func lossPlot() string {
	var lines []line
	for _, c := range losses {
		l := line{name: c.name()}
		for i, m := range lose(issue14(c.gateways), c.lost) {
			if i%10 == 0 && m.at <= 60 {
				l.points = append(l.points, [2]float64{m.at, m.served * 100})
			}
		}
		lines = append(lines, l)
	}
	return plot("Devices that are served after a loss",
		axis{"s after the loss", []float64{0, 10, 20, 30, 40, 50, 60}, false},
		axis{"% of devices", []float64{60, 70, 80, 90, 100}, false}, lines)
}
